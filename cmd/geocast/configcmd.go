package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks/georules"
	"github.com/geocast/geocast/store"
)

type configCmd struct {
	Check configCheckCmd `cmd:"" help:"Say what is wrong with a configuration and the files that it names."`
	Print configPrintCmd `cmd:"" help:"Print the configuration as it is used, defaults included."`
}

type configCheckCmd struct {
	serveFlags
}

// Help shows an example.
func (configCheckCmd) Help() string { return "Example: geocast config check -c geocast.yaml" }

// Run checks everything but the store and the addresses themselves.
func (c *configCheckCmd) Run() error {
	s, err := c.settings()
	if err != nil {
		return usageError{err}
	}
	files := s.hookFiles()
	if _, err := files.load(); err != nil {
		return usageError{err}
	}
	if _, err := loadCerts(s.TLS); err != nil {
		return usageError{err}
	}
	if c.Config == "" {
		fmt.Println("ok: the flags and the defaults; -c FILE checks a configuration file")
	} else {
		fmt.Println("ok")
	}
	return nil
}

type configPrintCmd struct {
	serveFlags
}

// Help shows an example.
func (configPrintCmd) Help() string { return "Example: geocast config print -c geocast.yaml" }

// Run prints the configuration as YAML that could be used in its place.
func (c *configPrintCmd) Run() error {
	s, err := c.settings()
	if err != nil {
		return usageError{err}
	}
	out, err := yaml.MarshalWithOptions(s.inUse(), yaml.IndentSequence(true))
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(out)
	return err
}

// inUse is the configuration with its defaults filled in.
func (s *settings) inUse() config {
	c, b := s.config, s.broker.WithDefaults()
	c.Version = 1
	c.Memory = showSize(b.Memory)
	if n := s.reserve(b); n != 0 {
		c.Reserve = showSize(n)
	}
	c.Linger, c.StopWithin, c.SysInterval = showSpan(max(b.Linger, 0)), showSpan(s.stopWithin), showSpan(max(b.SysInterval, 0))
	if c.Log.Level == "" {
		c.Log.Level = "info"
	}
	if c.Log.Format == "" {
		c.Log.Format = "text"
	}
	if c.Locations.Keep == "" {
		c.Locations.Keep = showSpan(georules.DefaultKeep)
	}
	if c.Locations.Fixes == 0 {
		c.Locations.Fixes = georules.DefaultFixes
	}
	c.Locations.Trackers = cmp.Or(c.Locations.Trackers, georules.DefaultTrackers)
	c.Locations.AllTrackers = cmp.Or(c.Locations.AllTrackers, georules.DefaultAll)
	c.Limits = shownLimits(b.Limits)
	return c
}

// reserve is what the broker will use on the volume of the data folder, which may
// not be there yet; 0 without one.
func (s *settings) reserve(b broker.Config) int64 {
	if b.Reserve != 0 || b.Data == "" {
		return b.Reserve
	}
	dir := b.Data
	for {
		_, total, err := store.Space(dir)
		if err == nil {
			return store.Reserve(b.Memory, total)
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		return 0
	}
}

func shownLimits(l broker.Limits) limits {
	w := limits{
		Packet: showSize(int64(l.Packet)), Connect: showSpan(l.Connect), ReceiveMaximum: l.ReceiveMaximum, Window: l.Window,
		TopicAliases: l.TopicAliases, SessionExpiry: showSpan(l.SessionExpiry), QueueMessages: l.QueueMessages, QueueBytes: showSize(l.QueueBytes), QueueKeep: showSpan(max(l.QueueKeep, 0)),
		PendingMessages: l.PendingMessages, PendingBytes: showSize(int64(l.PendingBytes)), InboxKeep: showSpan(l.InboxKeep),
		InboxEvents: l.InboxEvents, InboxBytes: showSize(l.InboxBytes), Inboxes: l.Inboxes, Retained: l.Retained, RetainedBytes: showSize(l.RetainedBytes), RetainedKeep: showSpan(l.RetainedKeep),
		Subscriptions: l.Subscriptions, Sessions: l.Sessions, Topic: l.Topic, TopicLevels: l.TopicLevels,
	}
	w.ServerKeepAlive = fmt.Sprint(l.ServerKeepAlive, "s")
	return w
}
