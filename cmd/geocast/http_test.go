package main

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks/georules"
	"github.com/geocast/geocast/hooks/users"
	"github.com/geocast/geocast/rules"
)

// Names of metrics follow Prometheus' rules, and docs/operations.md has each.
func TestMetricsAreNamedAndDocumented(t *testing.T) {
	b, err := broker.New(broker.Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	a := &adminServer{engine: georules.New(&rules.Set{}, rules.Everybody{})}
	a.ready(b)
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister((*metrics)(a))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.Contains(string(page), "`"+f.GetName()) {
			t.Errorf("%s is not in docs/operations.md", f.GetName())
		}
	}
	for _, key := range regexp.MustCompile(`geocast_[a-z_]+`).FindAllString(string(page), -1) {
		if !strings.Contains(metricNames(families), key+"\n") {
			t.Errorf("docs/operations.md has %s, which there is not", key)
		}
	}
}

func metricNames(families []*dto.MetricFamily) (names string) {
	for _, f := range families {
		names += f.GetName() + "\n"
	}
	return names
}

// Who is slow to ask, or asks at length, is cut off; who is not an administrator sees
// nothing but whether the broker is well.
func TestOperatorsPortIsGuarded(t *testing.T) {
	token, stored := users.NewToken()
	other, otherStored := users.NewToken()
	file, err := users.Parse("users.yaml", []byte("users: {boss: {role: admin, token: \""+stored+"\"}, ann: {token: \""+otherStored+"\"}}"))
	if err != nil {
		t.Fatal(err)
	}
	a := newAdminServer("0.0.0.0:0", users.NewLive(file))
	if err := a.listen(nil, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	_, port, _ := net.SplitHostPort(a.web.at.String())
	address := net.JoinHostPort("127.0.0.1", port)
	for _, row := range []struct {
		path, user, secret string
		want               int
	}{
		{"/healthz", "", "", 200}, {"/readyz", "", "", 503}, {"/metrics", "", "", 401}, {"/debug/pprof/", "", "", 401}, {"/", "", "", 401},
		{"/metrics", "boss", "wrong", 401}, {"/metrics", "ann", other, 401}, {"/metrics", "boss", token, 200}, {"/debug/pprof/", "boss", token, 200},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+address+row.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if row.user != "" {
			r.SetBasicAuth(row.user, row.secret)
		}
		got, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if got.Body.Close(); got.StatusCode != row.want {
			t.Errorf("%s as %q: %d, want %d", row.path, row.user, got.StatusCode, row.want)
		}
	}
	if s := a.web.srv; s.ReadTimeout == 0 || s.WriteTimeout == 0 || s.IdleTimeout == 0 {
		t.Error("a slow client is waited for without end")
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("X-Long: "+strings.Repeat("y", 1000)+"\r\n", 100)+"\r\n")
	if line, _ := bufio.NewReader(c).ReadString('\n'); strings.Contains(line, "200") {
		t.Errorf("100 KB of headers are answered by %s", line)
	}
}
