package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

func TestMetricsOfOtherRooms(t *testing.T) {
	cfg := &config.Config{Namespace: "default", Sinks: []deploy.Sink{{
		Name: "team", Namespace: "default", Spec: deploy.SinkSpec{Type: deploy.SinkGeneric, Address: "https://alerts.example.org"},
	}}, Sources: []deploy.Source{{
		Name: deploy.Name{Kind: deploy.KindSource, Namespace: "default", Name: "web"},
		Spec: deploy.SourceSpec{URL: "oci://registry.example.org/web", Receiver: &deploy.Receiver{Type: deploy.ReceiverGeneric, TokenFile: "/nowhere"}},
	}}}
	a, err := newAgent(config.Agent{Kubeconfig: testenv.Cluster(t).Kubeconfig, CacheDir: t.TempDir()}, cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer a.store.Close()
	w := httptest.NewRecorder()
	a.board.Handler(nil).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, line := range []string{
		`towline_alerts_dropped_total{sink="default/team"} 0`, `towline_alerts_dropped_total{sink="kubernetes-events"} 0`, "towline_cache_bytes 0", "towline_cache_entries 0",
		`towline_webhooks_total{name="web",namespace="default",result="accepted"} 0`,
	} {
		if !strings.Contains(w.Body.String(), line+"\n") {
			t.Errorf("%s is missing", line)
		}
	}
}
