package status

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/internal/deploy"
)

//go:embed page
var pageFiles embed.FS

// assetTypes are the files that pages may load.
var assetTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

var (
	overviewTemplate = parsePage("overview.html")
	targetTemplate   = parsePage("target.html")
	missingTemplate  = parsePage("missing.html")
)

func parsePage(file string) *template.Template {
	funcs := template.FuncMap{
		"revision": shortRevision, "tone": tone, "when": when, "due": due, "missing": missing, "path": targetPath, "lower": strings.ToLower,
		"sourceWord": sourceWord, "brief": Brief, "short": ShortDigests,
		"seconds": func(s float64) string { return span(time.Duration(s * float64(time.Second))) },
	}
	return template.Must(template.New("layout.html").Funcs(funcs).ParseFS(pageFiles, "page/layout.html", "page/"+file))
}

// page is what every page shows.
type page struct {
	Title string
	// Base is the relative path to the overview: the pages work behind a proxy that adds a prefix.
	Base string
	Head Head
}

// moment is a time for a page: exact, and relative to the agent's clock.
type moment struct {
	At    time.Time
	Words string
}

// when is a moment that has been.
func when(now, at time.Time) moment { return moment{At: at, Words: ago(now, at)} }

// due is a moment that is planned.
func due(now, at time.Time) moment { return moment{At: at, Words: in(now, at)} }

// overview is the page at /.
type overview struct {
	page
	Summary Summary
	Sources []deploy.SourceState
	Targets []deploy.TargetState
	Filter  filter
	Chips   []chip
}

// filter is what the overview was asked to leave out.
type filter struct {
	Text string // part of a name
	Tone string // see tone
}

// chip is a link that filters by tone, with how many there are.
type chip struct {
	Tone, Label string
	Count       int
	Active      bool
}

func (s *server) overviewPage(w http.ResponseWriter, r *http.Request) {
	st := s.board.Status()
	f := filter{Text: strings.TrimSpace(r.URL.Query().Get("q")), Tone: r.URL.Query().Get("show")}
	o := overview{
		page:    page{Title: "Towline", Base: "./", Head: st.Head},
		Summary: st.Summary, Sources: st.Sources, Filter: f, Chips: chips(st.Summary.Targets, f.Tone),
	}
	for _, t := range st.Targets {
		if strings.Contains(t.Name.String(), f.Text) && (f.Tone == "" || f.Tone == tone(t.Phase)) {
			o.Targets = append(o.Targets, t)
		}
	}
	slices.SortStableFunc(o.Targets, func(a, b deploy.TargetState) int { return cmp.Compare(urgency(a.Phase), urgency(b.Phase)) })
	render(w, http.StatusOK, overviewTemplate, o)
}

func chips(c TargetCounts, active string) []chip {
	all := []chip{
		{"", "all", c.Total, false},
		{"failed", "failed", c.Failed, false},
		{"degraded", "degraded", c.Degraded, false},
		{"running", "running", c.Running + c.Deleting, false},
		{"pending", "pending", c.Pending, false},
		{"suspended", "suspended", c.Suspended, false},
		{"ready", "ready", c.Ready, false},
	}
	for i := range all {
		all[i].Active = all[i].Tone == active
	}
	return all
}

// targetView is the page of one target.
type targetView struct {
	page
	Explanation

	Annotations []annotation
}

type annotation struct{ Key, Value string }

func (s *server) targetPage(w http.ResponseWriter, r *http.Request) {
	p := page{Title: r.PathValue("name"), Base: "../../../"}
	s.board.mu.Lock()
	p.Head = s.board.head()
	s.board.mu.Unlock()
	x, err := s.explain(r)
	if err != nil {
		s.missing(w, p, err.Error())
		return
	}
	v := targetView{page: p, Explanation: x}
	if x.Source != nil {
		for _, k := range slices.Sorted(maps.Keys(x.Source.Annotations)) {
			v.Annotations = append(v.Annotations, annotation{k, x.Source.Annotations[k]})
		}
	}
	render(w, http.StatusOK, targetTemplate, v)
}

func (s *server) notFoundPage(w http.ResponseWriter, r *http.Request) {
	s.missing(w, page{Base: strings.Repeat("../", strings.Count(r.URL.Path, "/")-1) + "./"}, "There is no page at this address.")
}

func (s *server) missing(w http.ResponseWriter, p page, message string) {
	p.Title = "Not found"
	p.Head.Version = s.board.version
	render(w, http.StatusNotFound, missingTemplate, struct {
		page
		Message string
	}{p, message})
}

func render(w http.ResponseWriter, code int, t *template.Template, data any) {
	var b bytes.Buffer // so that an error does not end in half a page
	if err := t.Execute(&b, data); err != nil {
		text(w, http.StatusInternalServerError, "the page cannot be shown: "+err.Error()+"\n")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes()) // whoever asked is gone: nobody to tell
}

// asset serves a file of the pages. Browsers ask again each time and mostly hear that it is unchanged: after an upgrade of the agent, page and files match.
func asset(w http.ResponseWriter, r *http.Request) {
	file := r.PathValue("file")
	kind := assetTypes[path.Ext(file)]
	b, err := pageFiles.ReadFile("page/" + file)
	if kind == "" || err != nil {
		text(w, http.StatusNotFound, "there is no such file\n")
		return
	}
	sum := sha256.Sum256(b)
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
	http.ServeContent(w, r, file, time.Time{}, bytes.NewReader(b))
}

// tone is the colour of a phase, by name; the filter uses the same words.
func tone(p deploy.Phase) string {
	switch {
	case running(p), p == deploy.PhaseDeleting:
		return "running"
	case p == "":
		return "pending"
	}
	return strings.ToLower(string(p))
}

// urgency sorts what needs somebody before what does not.
func urgency(p deploy.Phase) int {
	return slices.Index([]string{"failed", "degraded", "running", "pending", "suspended", "ready"}, tone(p))
}

// sourceWord is the state of a source as a word that is also a tone.
func sourceWord(s deploy.SourceState) string {
	switch {
	case s.Suspended:
		return "Suspended"
	case s.Failures > 0:
		return "Failed"
	case s.Ready:
		return "Ready"
	}
	return "Pending"
}

// targetPath is the page of a target, below the overview.
func targetPath(n deploy.Name) string {
	return "targets/" + n.Kind.Word() + "/" + n.Namespace + "/" + n.Name
}
