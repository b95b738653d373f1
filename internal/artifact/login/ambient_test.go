package login

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

const cloudHost = "reg.cloud.example"

// counting is a cloud whose tokens are numbered and live for an hour.
func counting(calls *atomic.Int32) *ambient {
	return newAmbient(cloud{
		name: "test", tried: "nothing", serves: func(h string) bool { return h == cloudHost },
		fetch: func(context.Context, string) (token, error) {
			n := calls.Add(1)
			return token{auth: authn.AuthConfig{Username: "u", Password: fmt.Sprint("token-", n)}, expires: time.Now().Add(time.Hour)}, nil
		},
	})
}

func password(t *testing.T, a *ambient) string {
	t.Helper()
	c, err := resolve(t, a, cloudHost+"/app")
	if err != nil {
		t.Fatal(err)
	}
	return c.Password
}

func TestTokensAreKeptUntilShortlyBeforeTheirEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		a := counting(&calls)
		if got := password(t, a); got != "token-1" {
			t.Errorf("first: %s", got)
		}
		time.Sleep(54 * time.Minute)
		if got := password(t, a); got != "token-1" {
			t.Errorf("six minutes before its end: %s", got)
		}
		time.Sleep(2 * time.Minute)
		if got := password(t, a); got != "token-2" {
			t.Errorf("four minutes before its end: %s", got)
		}
	})
}

func TestATokenThatIsStillGoodOutlivesAFailedRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		a := counting(&calls)
		password(t, a)
		a.fetch = func(context.Context, string) (token, error) { return token{}, errors.New("the cloud is down") }
		time.Sleep(56 * time.Minute)
		if got := password(t, a); got != "token-1" {
			t.Errorf("got %s", got)
		}
		time.Sleep(5 * time.Minute)
		if _, err := resolve(t, a, cloudHost+"/app"); err == nil || !strings.Contains(err.Error(), "the cloud is down") {
			t.Errorf("after its end: %v", err)
		}
	})
}

func TestManyWaitForOneRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		a := counting(&calls)
		fetch := a.fetch
		a.fetch = func(ctx context.Context, host string) (token, error) {
			time.Sleep(time.Second)
			return fetch(ctx, host)
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if got := password(t, a); got != "token-1" {
					t.Errorf("got %s", got)
				}
			})
		}
		wg.Wait()
		if n := calls.Load(); n != 1 {
			t.Errorf("%d refreshes", n)
		}
	})
}

func TestACloudThatDoesNotAnswerEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		a := counting(&calls)
		release := make(chan struct{})
		a.fetch = func(context.Context, string) (token, error) { // as a library that takes no context
			calls.Add(1)
			<-release
			return token{}, errors.New("late")
		}
		for range 3 {
			start := time.Now()
			_, err := resolve(t, a, cloudHost+"/app")
			if err == nil || !strings.Contains(err.Error(), "no answer within 10s") || !strings.Contains(err.Error(), "secretRef") {
				t.Errorf("got %v", err)
			}
			if d := time.Since(start); d > patience {
				t.Errorf("waited %s", d)
			}
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("%d calls pile up", n)
		}
		close(release)
	})
}

func TestTheCallersEndIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		a := counting(&calls)
		a.fetch = func(ctx context.Context, _ string) (token, error) {
			<-ctx.Done()
			return token{}, ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.ResolveContext(ctx, repository(t, cloudHost+"/app")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		time.Sleep(patience) // the flight ends by itself
	})
}

func TestOtherHostsGetNoToken(t *testing.T) {
	var calls atomic.Int32
	a := counting(&calls)
	for _, host := range []string{cloudHost + ".evil.example", "evil." + cloudHost, "localhost:5000", "docker.io"} {
		if c, err := resolve(t, a, host+"/library/app"); err != nil || c != (authn.AuthConfig{}) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if calls.Load() != 0 {
		t.Error("the cloud was asked")
	}
}

func TestScrub(t *testing.T) {
	t.Setenv("AZURE_CLIENT_SECRET", "hunter 2+x")
	jwt := "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYW5hcnkifQ.c2ln"
	for what, in := range map[string]string{
		"a JWT":                     "refused: " + jwt,
		"one of Google's":           "refused: ya29.canary-token",
		"something long":            "refused: " + strings.Repeat("canary", 12),
		"a secret of the process":   "refused: hunter 2+x",
		"the same in a form's body": "refused: client_secret=hunter+2%2Bx&a=b",
	} {
		t.Run("takes out "+what, func(t *testing.T) {
			got := scrub(in)
			if !strings.HasPrefix(got, "refused: ") || !strings.Contains(got, "[redacted]") {
				t.Errorf("got %q", got)
			}
			for _, leak := range []string{"canary", "eyJ", "hunter"} {
				if strings.Contains(got, leak) {
					t.Errorf("%q leaks", got)
				}
			}
		})
	}
	t.Run("makes one short line", func(t *testing.T) {
		if got := scrub(strings.Repeat("page\n", 500)); len(got) > maxMessage+len("…") || strings.Contains(got, "\n") {
			t.Errorf("%d bytes: %q", len(got), got)
		}
	})
}
