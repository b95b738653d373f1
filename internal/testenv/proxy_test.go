package testenv

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProxyCarriesForThoseWhoMay(t *testing.T) {
	reg, proxy := NewRegistry(t), NewProxy(t, "robot", "secret")
	for _, c := range []struct {
		password string
		want     int
	}{{"secret", http.StatusOK}, {"wrong", http.StatusProxyAuthRequired}} {
		tr := &http.Transport{Proxy: http.ProxyURL(proxy.URL("robot", c.password))}
		t.Cleanup(tr.CloseIdleConnections)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+reg.Host()+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != c.want {
			t.Errorf("status %d, want %d", res.StatusCode, c.want)
		}
	}
	want := []ProxyRequest{{Method: http.MethodGet, Host: reg.Host()}, {Method: http.MethodGet, Host: reg.Host(), Refused: true}}
	if d := cmp.Diff(want, proxy.Requests()); d != "" || reg.Count("", "") != 1 {
		t.Errorf("the registry got %d requests, the proxy (-want +got):\n%s", reg.Count("", ""), d)
	}
}
