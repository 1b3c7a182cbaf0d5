package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"
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
	Rules          []string `help:"Rules files." type:"existingfile" placeholder:"FILE"`
	Users          string   `help:"Users file; with it only its users may connect." type:"existingfile" placeholder:"FILE"`
	ACL            string   `help:"Access file: who may read and write which topics." type:"existingfile" placeholder:"FILE"`
	AllowAnonymous bool     `help:"Let clients in without a user name beside the users; without --users, let anybody in on other than loopback addresses, too."`
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
	return s, s.resolve()
}

type serveCmd struct {
	serveFlags
}

// Help shows an example below the flags.
func (serveCmd) Help() string {
	return `Examples:
  geocast serve --data ./data --rules examples/rules/school-run/rules.yaml
  geocast init /etc/geocast && geocast serve -c /etc/geocast/geocast.yaml

SIGHUP reads the rules and the certificate anew: whole, or not at all.
SIGTERM ends it within 10 seconds; whatever was acknowledged is kept.`
}

// Run serves until SIGINT or SIGTERM.
func (s *serveCmd) Run() error {
	set, err := s.settings()
	if err != nil {
		return usageError{err}
	}
	return runBroker(set)
}

// stopWithin bounds a clean shutdown.
const stopWithin = 10 * time.Second

func runBroker(s *settings) error {
	log := s.logger()
	slog.SetDefault(log)
	if s.CPUs > 0 {
		runtime.GOMAXPROCS(s.CPUs)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	files := s.hookFiles()
	hooks, err := files.load()
	if err != nil {
		return usageError{err}
	}
	certs, err := loadCerts(s.TLS)
	if err != nil {
		return usageError{err}
	}
	if s.Users == "" {
		log.Warn("open mode: anybody who can connect is who they say they are, and sees all positions")
	}
	admin := &adminServer{}
	if err := admin.listen(s.Admin, log); err != nil {
		return err
	}
	defer admin.close()
	s.broker.Hooks, s.broker.Log, s.broker.TLS = hooks, log, certs.config()
	b, err := broker.New(s.broker)
	if err != nil {
		return err
	}
	for _, l := range s.Listen {
		if _, err := b.Listen(l); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	public, err := listenHTTP(s.HTTP, b, log)
	if err != nil {
		return errors.Join(err, b.Close())
	}
	defer public.close()
	admin.ready(b)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	go reloads(ctx, hup, func() { reload(&files, certs, b, log) })
	return within(ctx, admin, func() error { return b.Serve(ctx) })
}

// reloads calls reload for each SIGHUP until ctx ends.
func reloads(ctx context.Context, hup <-chan os.Signal, reload func()) {
	for {
		select {
		case <-hup:
			reload()
		case <-ctx.Done():
			return
		}
	}
}

// reload reads the rules and the certificate anew: each whole, or not at all.
func reload(files *hookFiles, certs *certs, b *broker.Broker, log *slog.Logger) {
	if err := files.reload(b); err != nil {
		log.Error("the rules were not reloaded; those that ran go on", "err", err)
	} else if len(files.rules) > 0 {
		log.Info("rules reloaded", "files", files.rules)
	}
	if err := certs.load(); err != nil {
		log.Error("the certificate was not reloaded; the one that was used goes on", "err", err)
	}
}

// within runs serve, and gives it a bounded time to end once ctx has.
func within(ctx context.Context, admin *adminServer, serve func() error) error {
	done := make(chan error, 1)
	go func() { done <- serve() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	admin.stopping()
	select {
	case err := <-done:
		return err
	case <-time.After(stopWithin):
		return fmt.Errorf("not everything ended within %v; what was acknowledged is kept", stopWithin)
	}
}

func (s *settings) logger() *slog.Logger {
	o := &slog.HandlerOptions{Level: s.level}
	if s.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}
