package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/hooks/georules"
	"github.com/geocast/geocast/hooks/users"
)

// webServer is an HTTP server that may not be there.
type webServer struct {
	srv *http.Server
	at  net.Addr
}

// secure is what an address begins with that is served by HTTPS.
const secure = "https://"

// hostPort is an address without its scheme.
func hostPort(address string) string {
	return strings.TrimPrefix(strings.TrimPrefix(address, secure), "http://")
}

// listenWeb serves h at an address, host:port or https://host:port; an empty address
// is none. Who is slow to ask, asks at length or is slow to read is cut off.
func listenWeb(address string, t *tls.Config, h http.Handler, what string, log *slog.Logger) (webServer, error) {
	if address == "" {
		return webServer{}, nil
	}
	l, err := net.Listen("tcp", hostPort(address))
	if err != nil {
		return webServer{}, fmt.Errorf("%s: %w", what, err)
	}
	scheme := "http://"
	if strings.HasPrefix(address, secure) {
		l, scheme = tls.NewListener(l, t), secure
	}
	srv := &http.Server{
		Handler: h, MaxHeaderBytes: 16 << 10, ReadTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		WriteTimeout: 5 * time.Minute, // a profile takes what was asked for
		ErrorLog:     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	log.Info("serving "+what, "url", scheme+l.Addr().String())
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error(what+" ended", "err", err)
		}
	}()
	return webServer{srv, l.Addr()}, nil
}

func (w webServer) close() {
	if w.srv == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if w.srv.Shutdown(ctx) != nil {
		w.srv.Close() //nolint:errcheck // it ends either way
	}
}

// page is what a browser sees at the root of the users' port.
const page = `<!doctype html><html lang="en"><meta charset="utf-8"><title>geocast</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:4em auto;padding:0 1em}code{background:#eee;padding:.1em .3em}</style>
<h1>geocast</h1><p>An MQTT broker that delivers by who you are and where you are. MQTT over WebSocket is at <code>/mqtt</code> on this port:</p>
<pre><code>mqtt.connect("ws://" + location.host + "/mqtt")</code></pre></html>
`

// listenHTTP serves users: MQTT over WebSocket.
func listenHTTP(address string, b *broker.Broker, t *tls.Config, log *slog.Logger) (webServer, error) {
	mux := http.NewServeMux()
	mux.Handle("/mqtt", b.Handler())
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, page)
	})
	return listenWeb(address, t, mux, "users by HTTP", log)
}

// adminServer serves operators. It is there before the store is open, and says
// so.
type adminServer struct {
	address string
	people  *users.Live // who may sign in; nil in open mode
	web     webServer
	engine  *georules.Hook // whose counters are shown; nil for none
	broker  atomic.Pointer[broker.Broker]
	ending  atomic.Bool
}

func newAdminServer(address string, people *users.Live) *adminServer {
	return &adminServer{address: address, people: people}
}

func (a *adminServer) listen(t *tls.Config, log *slog.Logger) (err error) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), (*metrics)(a))
	guarded := http.NewServeMux()
	guarded.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	guarded.HandleFunc("GET /debug/pprof/", atMost(longestProfile, pprof.Index))
	guarded.HandleFunc("GET /debug/pprof/profile", atMost(longestProfile, pprof.Profile))
	guarded.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	guarded.HandleFunc("GET /debug/pprof/trace", atMost(longestProfile, pprof.Trace))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.Handle("/", a.guard(guarded))
	a.web, err = listenWeb(a.address, t, mux, "operators by HTTP", log)
	return err
}

// longestProfile is how long a profile may take: pprof moves the server's write
// deadline for as long as is asked for, and nobody else can have one meanwhile.
const longestProfile = 5 * time.Minute

// atMost refuses a request for more seconds than most.
func atMost(most time.Duration, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s, err := strconv.ParseFloat(r.FormValue("seconds"), 64); err == nil && !(s <= most.Seconds()) {
			http.Error(w, fmt.Sprintf("a profile takes at most %v", most), http.StatusBadRequest)
			return
		}
		h(w, r)
	}
}

// guard asks for the name and the token or password of a user of role admin, where
// others than this machine may ask.
func (a *adminServer) guard(h http.Handler) http.Handler {
	if host, _, err := net.SplitHostPort(hostPort(a.address)); err == nil && loopback(host) {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.isAdmin(r) {
			w.Header().Set("WWW-Authenticate", `Basic realm="geocast", charset="UTF-8"`)
			http.Error(w, "sign in as a user of role admin", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (a *adminServer) isAdmin(r *http.Request) bool {
	name, secret, ok := r.BasicAuth()
	if !ok || a.people == nil {
		return false
	}
	id, err := a.people.Authenticate(r.Context(), &hooks.Credentials{Username: name, HasUsername: true, Password: []byte(secret), HasPassword: true})
	return err == nil && id.Role == "admin"
}

func (a *adminServer) ready(b *broker.Broker) { a.broker.Store(b) }

func (a *adminServer) stopping() { a.ending.Store(true) }

func (a *adminServer) close() { a.web.close() }

// readyz tells whether clients are served: not before the store is restored, not
// while the broker ends.
func (a *adminServer) readyz(w http.ResponseWriter, _ *http.Request) {
	switch b := a.broker.Load(); {
	case b == nil:
		http.Error(w, "starting", http.StatusServiceUnavailable)
	case a.ending.Load():
		http.Error(w, "stopping", http.StatusServiceUnavailable)
	case b.Stats().NoSpace:
		http.Error(w, "the disk is nearly full: publishes that have to be stored are refused", http.StatusServiceUnavailable)
	default:
		fmt.Fprintln(w, "ready")
	}
}
