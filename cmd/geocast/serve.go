package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/geocast/geocast/broker"
)

// serveFlags are the settings that have a flag; what is given goes over the file.
type serveFlags struct {
	Config         string   `short:"c" help:"Configuration file; \"geocast init\" writes one." type:"existingfile" placeholder:"FILE"`
	Listen         []string `help:"Where to listen: mqtt://, mqtts://, ws:// or wss:// and a host:port; default mqtt://127.0.0.1:1883." placeholder:"URL"`
	HTTP           string   `name:"http" help:"Where to serve users by HTTP: WebSocket at /mqtt." placeholder:"HOST:PORT"`
	Admin          string   `help:"Where to serve operators by HTTP: /metrics, /healthz, /readyz, /debug/pprof." placeholder:"HOST:PORT"`
	Data           string   `help:"Folder of the durable store; without it nothing survives." type:"path" placeholder:"DIR"`
	Rules          []string `help:"Rules files, and folders of them (*.yaml)." type:"path" placeholder:"FILE|DIR"`
	Users          string   `help:"Users file; with it only its users may connect." type:"existingfile" placeholder:"FILE"`
	ACL            string   `help:"Access file: who may read and write which topics." type:"existingfile" placeholder:"FILE"`
	AllowAnonymous bool     `help:"Let clients in without a user name beside the users; without --users, let anybody in on other than loopback addresses, too."`
	ResetClock     bool     `help:"Start although the data folder was written at a time more than a day ahead of this machine's clock."`
	Memory         string   `help:"Memory budget, such as 512MB." placeholder:"SIZE"`
	TLSCert        string   `name:"tls-cert" help:"Certificate chain for mqtts:// and wss://, PEM." type:"existingfile" placeholder:"FILE"`
	TLSKey         string   `name:"tls-key" help:"Its private key, PEM." type:"existingfile" placeholder:"FILE"`
	LogLevel       string   `help:"debug, info, warn or error." placeholder:"LEVEL"`
	LogFormat      string   `help:"text or json." placeholder:"FORMAT"`
}

// settings reads the file and puts the flags over it.
func (f *serveFlags) settings() (*settings, error) {
	s, err := readConfig(f.Config)
	if err != nil {
		return nil, err
	}
	for _, o := range []struct {
		flag string
		into *string
	}{{f.HTTP, &s.HTTP}, {f.Admin, &s.Admin}, {f.Data, &s.Data}, {f.Users, &s.Users}, {f.ACL, &s.ACL}, {f.Memory, &s.Memory},
		{f.TLSCert, &s.TLS.Cert}, {f.TLSKey, &s.TLS.Key}, {f.LogLevel, &s.Log.Level}, {f.LogFormat, &s.Log.Format}} {
		if o.flag != "" {
			*o.into = o.flag
		}
	}
	if len(f.Listen) > 0 {
		s.Listen = f.Listen
	}
	if len(f.Rules) > 0 {
		s.Rules = f.Rules
	}
	s.AllowAnonymous = s.AllowAnonymous || f.AllowAnonymous
	s.broker.ResetClock = f.ResetClock
	return s, s.resolve()
}

type serveCmd struct {
	serveFlags
}

// Help shows an example below the flags.
func (serveCmd) Help() string {
	return `Examples:
  geocast serve --data ./data --rules examples/rules/school-run/rules.yaml
  geocast init ./my && geocast serve -c ./my/geocast.yaml

SIGHUP reads rules, users, access file and certificate anew: all of them, or none if one has an error. SIGTERM and SIGINT
end it within stop_within (10 s): whatever was acknowledged is kept, and so are the sessions; a second one ends it at once.`
}

// Run serves until SIGINT or SIGTERM.
func (s *serveCmd) Run() error {
	set, err := s.settings()
	if err != nil {
		return usageError{err}
	}
	sig := listenToSignals()
	defer sig.close()
	return runBroker(set, sig)
}

func runBroker(s *settings, sig *signals) error {
	out := newLogWriter(os.Stderr, s.logger(os.Stderr))
	defer out.close()
	log := s.logger(out)
	slog.SetDefault(log)
	if s.CPUs > 0 {
		runtime.GOMAXPROCS(s.CPUs)
	}
	files := s.hookFiles()
	hooks, err := files.load()
	if err != nil {
		return usageError{err}
	}
	files.engine.Log = log
	certs, err := loadCerts(s.TLS)
	if err != nil {
		return usageError{err}
	}
	if s.Users == "" {
		log.Warn("open mode: anybody who can connect is who they say they are, and sees all positions")
	}
	admin := newAdminServer(s.Admin, files.people)
	admin.engine = files.engine
	if err := admin.listen(certs.config(), log); err != nil {
		return err
	}
	defer admin.close()
	s.broker.Hooks, s.broker.Log, s.broker.TLS, s.broker.Version = hooks, log, certs.config(), version
	limitMemory(s.broker.WithDefaults().Memory)
	percent := debug.SetGCPercent(-1) // what is restored stays: only the limit makes it collect
	b, err := broker.New(s.broker)
	if err != nil {
		return err
	}
	debug.SetGCPercent(percent)
	debug.FreeOSMemory() // what restoring them took
	var wg sync.WaitGroup
	defer wg.Wait()
	wait(&wg, recheckWithin, func() { b.Recheck(nil) }) // the files may have changed since the sessions were stored
	var tickets *ticketFile
	if t := certs.config(); t != nil && s.broker.Data != "" {
		tickets = keepTickets(t, s.broker.Data, log)
	}
	public, err := s.listen(b, certs, log)
	if err != nil {
		return errors.Join(err, b.Close())
	}
	defer public.close()
	sig.onHangup(func() { reload(&files, certs, b, log) })
	admin.ready(b)
	tell(log, "READY=1")
	quiet, stop := context.WithCancel(context.Background())
	wg.Go(func() { giveBack(quiet, func() uint64 { n := b.Stats(); return n.Published + n.Delivered }) })
	defer stop()
	if tickets != nil {
		wg.Go(func() { tickets.watch(quiet) })
	}
	return s.serve(sig, admin, b, log)
}

// recheckWithin is how long a start waits until the hooks were asked anew about all
// subscriptions: thousands of sessions take less. With a million the ports open
// first, and a filter that is not allowed any more ends some seconds later.
const recheckWithin = 5 * time.Second

// wait runs f in wg and waits for it, but not for long.
func wait(wg *sync.WaitGroup, most time.Duration, f func()) {
	done := make(chan struct{})
	wg.Go(func() { defer close(done); f() })
	select {
	case <-done:
	case <-time.After(most):
	}
}

// listen opens the listeners, and the users' HTTP port.
func (s *settings) listen(b *broker.Broker, certs *certs, log *slog.Logger) (webServer, error) {
	for _, l := range s.Listen {
		if _, err := b.Listen(l); err != nil {
			return webServer{}, err
		}
	}
	return listenHTTP(s.HTTP, b, certs.config(), log)
}

// serve runs b until a signal or a failed store ends it; from the signal on it has
// a bounded time.
func (s *settings) serve(sig *signals, admin *adminServer, b *broker.Broker, log *slog.Logger) error {
	done := make(chan error, 1)
	go func() { done <- b.Serve(sig.ctx) }() // if it does not end in time, the process does
	select {
	case err := <-done:
		return err
	case <-sig.ctx.Done():
	}
	admin.stopping()
	tell(log, "STOPPING=1")
	log.Info("stopping", "within", s.stopWithin)
	select {
	case err := <-done:
		if err == nil {
			log.Info("stopped")
		}
		return err
	case <-sig.forced:
		return errForced
	case <-time.After(s.stopWithin):
		return fmt.Errorf("not everything ended within %v; what was acknowledged is kept", s.stopWithin)
	}
}

// tell tells the service manager; a broker whose manager can't be told runs on.
func tell(log *slog.Logger, state string) {
	if err := notify(state); err != nil {
		log.Warn("the service manager was not told", "state", state, "err", err)
	}
}

// reload reads rules, users, access file and certificate anew: all of them, or none
// if one has an error.
func reload(files *hookFiles, certs *certs, b *broker.Broker, log *slog.Logger) {
	c, err := files.read()
	pair, certErr := certs.read()
	if err := errors.Join(err, certErr); err != nil {
		logFaults(log, err)
		return
	}
	certs.set(pair)
	c.warn()
	files.apply(c, b)
	log.Info("reloaded", "rules", files.rules, "users", files.users, "acl", files.acl, "cert", certs.files.Cert)
}

// mostFaults is how many faults of a reload are logged; "geocast rules check" shows all.
const mostFaults = 20

// logFaults writes a line for each thing that is wrong: an error may have many, one a
// line.
func logFaults(log *slog.Logger, err error) {
	faults := strings.Split(err.Error(), "\n")
	for _, f := range faults[:min(len(faults), mostFaults)] {
		log.Error("nothing was reloaded: all goes on as it was", "err", f)
	}
	if more := len(faults) - mostFaults; more > 0 {
		log.Error("nothing was reloaded: all goes on as it was", "more", more)
	}
}

// readable writes a duration in JSON as in text, with its unit: else it is nanoseconds.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

func (s *settings) logger(out io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: s.level}
	if s.Log.Format == "json" {
		o.ReplaceAttr = readable
		return slog.New(slog.NewJSONHandler(out, o))
	}
	return slog.New(slog.NewTextHandler(out, o))
}
