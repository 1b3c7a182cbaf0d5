package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/geocast/geocast/broker"
)

// webServer is an HTTP server that may not be there.
type webServer struct{ srv *http.Server }

// listenWeb serves h at an address; an empty address is none.
func listenWeb(address string, h http.Handler, what string, log *slog.Logger) (webServer, error) {
	if address == "" {
		return webServer{}, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return webServer{}, fmt.Errorf("%s: %w", what, err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10, IdleTimeout: 2 * time.Minute}
	log.Info("serving "+what, "url", "http://"+l.Addr().String())
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error(what+" ended", "err", err)
		}
	}()
	return webServer{srv}, nil
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
func listenHTTP(address string, b *broker.Broker, log *slog.Logger) (webServer, error) {
	mux := http.NewServeMux()
	mux.Handle("/mqtt", b.Handler())
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, page)
	})
	return listenWeb(address, mux, "users by HTTP", log)
}

// adminServer serves operators. It is there before the store is open, and says
// so.
type adminServer struct {
	web    webServer
	broker atomic.Pointer[broker.Broker]
	ending atomic.Bool
}

func (a *adminServer) listen(address string, log *slog.Logger) (err error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.readyz)
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), (*metrics)(a))
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	a.web, err = listenWeb(address, mux, "operators by HTTP", log)
	return err
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
