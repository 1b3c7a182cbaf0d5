package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/geocast/geocast/broker"
)

type serveCmd struct {
	Listen         []string `help:"Where to listen: mqtt://, ws:// and a host:port." default:"mqtt://127.0.0.1:1883" placeholder:"URL"`
	Data           string   `help:"Folder of the durable store; without it nothing survives." type:"path" placeholder:"DIR"`
	Rules          []string `help:"Rules files." type:"existingfile" placeholder:"FILE"`
	Users          string   `help:"Users file; with it only its users may connect." type:"existingfile" placeholder:"FILE"`
	ACL            string   `help:"Access file: who may read and write which topics." type:"existingfile" placeholder:"FILE"`
	AllowAnonymous bool     `help:"Let clients in without a user name beside the users; without --users, let anybody in on other than loopback addresses, too."`
	Memory         int64    `help:"Memory budget in MB." default:"512"`
}

// Help shows an example below the flags.
func (serveCmd) Help() string {
	return `Example: geocast serve --data ./data --rules examples/rules/school-run/rules.yaml`
}

// Run serves until SIGINT or SIGTERM.
func (s *serveCmd) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := s.checkOpen(); err != nil {
		return usageError{err}
	}
	files := hookFiles{s.Rules, s.Users, s.ACL, s.AllowAnonymous}
	hooks, err := files.load()
	if err != nil {
		return usageError{err}
	}
	b, err := broker.New(broker.Config{Data: s.Data, Hooks: hooks, Memory: s.Memory << 20, Log: slog.Default()})
	if err != nil {
		return err
	}
	for _, l := range s.Listen {
		if _, err := b.Listen(l); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	return b.Serve(ctx)
}

// checkOpen refuses to be open to the world by accident.
func (s *serveCmd) checkOpen() error {
	if s.Users != "" || s.AllowAnonymous {
		return nil
	}
	for _, l := range s.Listen {
		u, err := url.Parse(l)
		if err != nil {
			return err
		}
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return fmt.Errorf("--listen %s: on other than loopback addresses clients must sign in: give --users FILE, or --allow-anonymous", l)
		}
	}
	slog.Warn("open mode: anybody who can connect is who they say they are, and sees all positions")
	return nil
}
