package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/regular"
	"github.com/geocast/geocast/strictyaml"
)

// config is geocast.yaml as it is written. Sizes and durations are texts with a
// unit; relative paths are relative to the file.
type config struct {
	Version        int              `yaml:"version"`
	Data           string           `yaml:"data"`
	Memory         string           `yaml:"memory"`
	Reserve        string           `yaml:"reserve"`
	CPUs           int              `yaml:"cpus"`
	Linger         string           `yaml:"linger"`
	StopWithin     string           `yaml:"stop_within"`
	Listen         strictyaml.Texts `yaml:"listen"`
	HTTP           string           `yaml:"http"`
	Admin          string           `yaml:"admin"`
	TLS            tlsConfig        `yaml:"tls"`
	Origins        strictyaml.Texts `yaml:"origins"`
	Users          string           `yaml:"users"`
	ACL            string           `yaml:"acl"`
	AllowAnonymous bool             `yaml:"allow_anonymous"`
	Rules          strictyaml.Texts `yaml:"rules"`
	Log            logConfig        `yaml:"log"`
	SysInterval    string           `yaml:"sys_interval"`
	Locations      locationsConfig  `yaml:"locations"`
	Limits         limits           `yaml:"limits"`
}

// locationsConfig says how long fixes are kept after their arrival, 0s for not at
// all, how many of one tracker, and how many trackers one person has, and all have.
type locationsConfig struct {
	Keep        string `yaml:"keep"`
	Fixes       int    `yaml:"fixes"`
	Trackers    int    `yaml:"trackers"`
	AllTrackers int    `yaml:"all_trackers"`
}

type tlsConfig struct {
	Cert     string `yaml:"cert"`
	Key      string `yaml:"key"`
	ClientCA string `yaml:"client_ca"`
}

type logConfig struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// limits are broker.Limits as they are written.
type limits struct {
	Packet          string `yaml:"packet"`
	Connect         string `yaml:"connect"`
	ReceiveMaximum  int    `yaml:"receive_maximum"`
	Window          int    `yaml:"window"`
	TopicAliases    int    `yaml:"topic_aliases"`
	SessionExpiry   string `yaml:"session_expiry"`
	QueueMessages   int    `yaml:"queue_messages"`
	QueueBytes      string `yaml:"queue_bytes"`
	QueueKeep       string `yaml:"queue_keep"`
	PendingMessages int    `yaml:"pending_messages"`
	PendingBytes    string `yaml:"pending_bytes"`
	InboxKeep       string `yaml:"inbox_keep"`
	InboxEvents     int    `yaml:"inbox_events"`
	InboxBytes      string `yaml:"inbox_bytes"`
	Inboxes         int    `yaml:"inboxes"`
	Retained        int    `yaml:"retained"`
	Sessions        int    `yaml:"sessions"`
	RetainedBytes   string `yaml:"retained_bytes"`
	RetainedKeep    string `yaml:"retained_keep"`
	Subscriptions   int    `yaml:"subscriptions"`
	Topic           int    `yaml:"topic"`
	TopicLevels     int    `yaml:"topic_levels"`
	ServerKeepAlive string `yaml:"server_keep_alive"`
}

// settings are what the program runs with: the file and the flags over it.
type settings struct {
	config
	doc        *strictyaml.Document // nil without a file
	broker     broker.Config
	keep       time.Duration // of fixes; below 0 none, 0 the default
	stopWithin time.Duration // bounds a clean end
	level      slog.Level
}

// defaultStop is stop_within where nothing is said.
const defaultStop = 10 * time.Second

// readConfig reads a file; an empty name is an empty file. Errors are
// *strictyaml.Fault.
func readConfig(name string) (*settings, error) {
	if name == "" {
		return &settings{}, nil
	}
	text, err := regular.Read(name)
	if err != nil {
		return nil, err
	}
	return parseConfig(name, text)
}

func parseConfig(name string, text []byte) (s *settings, err error) {
	s = &settings{}
	if s.doc, err = strictyaml.Parse(name, text); err != nil {
		return nil, err
	}
	if err := s.doc.Decode(&s.config); err != nil {
		return nil, err
	}
	if s.Version > 1 {
		return nil, s.fault([]any{"version", ""}, "version %d is not known; this geocast reads version 1", s.Version)
	}
	s.rebase(filepath.Dir(name))
	return s, nil
}

// fault is an error at a place of the file, or in a flag.
func (s *settings) fault(path []any, format string, args ...any) error {
	if s.doc != nil {
		return s.doc.Fault(path, format, args...)
	}
	return fmt.Errorf(format, args...)
}

// rebase makes paths relative to the file's folder.
func (s *settings) rebase(dir string) {
	paths := []*string{&s.Data, &s.TLS.Cert, &s.TLS.Key, &s.TLS.ClientCA, &s.Users, &s.ACL}
	for i := range s.Rules {
		paths = append(paths, &s.Rules[i])
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

// resolve checks everything that can be checked without starting, and fills in
// what the broker runs with.
func (s *settings) resolve() error {
	if len(s.Listen) == 0 {
		s.Listen = strictyaml.Texts{"mqtt://127.0.0.1:1883"}
	}
	if err := errors.Join(s.sizes()...); err != nil {
		return err
	}
	for _, check := range []func() error{s.numbers, s.addresses, s.checkOpen, s.logging, s.files} {
		if err := check(); err != nil {
			return err
		}
	}
	b := &s.broker
	b.Data, b.Origins = s.Data, s.Origins
	l, w := &b.Limits, &s.Limits
	l.ReceiveMaximum, l.Window, l.TopicAliases = w.ReceiveMaximum, w.Window, w.TopicAliases
	l.QueueMessages, l.PendingMessages, l.InboxEvents = w.QueueMessages, w.PendingMessages, w.InboxEvents
	l.Inboxes, l.Retained, l.Subscriptions = w.Inboxes, w.Retained, w.Subscriptions
	l.Topic, l.TopicLevels, l.Sessions = w.Topic, w.TopicLevels, w.Sessions
	if err := l.Validate(); err != nil {
		return s.outOfRange(err)
	}
	return nil
}

// outOfRange is the broker's error about a limit, under the name of its key.
func (s *settings) outOfRange(err error) error {
	text := strings.TrimPrefix(err.Error(), "broker: ")
	field, rest, _ := strings.Cut(text, " ")
	if f, ok := reflect.TypeFor[limits]().FieldByName(field); ok {
		key := f.Tag.Get("yaml")
		return s.fault([]any{"limits", key, ""}, "%s %s", key, rest)
	}
	return s.fault([]any{"limits"}, "%s", text)
}

// sizes reads the texts with units.
func (s *settings) sizes() (errs []error) {
	b, l, w := &s.broker, &s.broker.Limits, &s.Limits
	var packet, pending int64
	var keep time.Duration
	for _, f := range []struct {
		path []any
		text string
		into *int64
	}{
		{[]any{"memory", ""}, s.Memory, &b.Memory}, {[]any{"reserve", ""}, s.Reserve, &b.Reserve},
		{[]any{"limits", "packet", ""}, w.Packet, &packet}, {[]any{"limits", "queue_bytes", ""}, w.QueueBytes, &l.QueueBytes},
		{[]any{"limits", "pending_bytes", ""}, w.PendingBytes, &pending}, {[]any{"limits", "inbox_bytes", ""}, w.InboxBytes, &l.InboxBytes},
		{[]any{"limits", "retained_bytes", ""}, w.RetainedBytes, &l.RetainedBytes},
	} {
		if f.text == "" {
			continue
		}
		var err error
		if *f.into, err = parseSize(f.text); err != nil {
			errs = append(errs, s.fault(f.path, "%s", err))
		} else if *f.into == 0 {
			errs = append(errs, s.zero(f.path, f.text))
		}
	}
	for _, f := range []struct {
		path []any
		text string
		into *time.Duration
	}{
		{[]any{"linger", ""}, s.Linger, &b.Linger}, {[]any{"stop_within", ""}, s.StopWithin, &s.stopWithin}, {[]any{"sys_interval", ""}, s.SysInterval, &b.SysInterval},
		{[]any{"limits", "connect", ""}, w.Connect, &l.Connect},
		{[]any{"limits", "session_expiry", ""}, w.SessionExpiry, &l.SessionExpiry}, {[]any{"limits", "inbox_keep", ""}, w.InboxKeep, &l.InboxKeep},
		{[]any{"limits", "queue_keep", ""}, w.QueueKeep, &l.QueueKeep}, {[]any{"limits", "retained_keep", ""}, w.RetainedKeep, &l.RetainedKeep},
		{[]any{"limits", "server_keep_alive", ""}, w.ServerKeepAlive, &keep}, {[]any{"locations", "keep", ""}, s.Locations.Keep, &s.keep},
	} {
		if f.text == "" {
			continue
		}
		var err error
		if *f.into, err = parseSpan(f.text); err != nil {
			errs = append(errs, s.fault(f.path, "%s", err))
		} else if *f.into == 0 && !slices.Contains(mayBeZero, f.path[len(f.path)-2].(string)) {
			errs = append(errs, s.zero(f.path, f.text))
		}
	}
	if keep > 65535*time.Second {
		errs = append(errs, s.fault([]any{"limits", "server_keep_alive", ""}, "at most 65535s"))
	}
	l.Packet, l.PendingBytes, l.ServerKeepAlive = int(packet), int(pending), uint16(keep/time.Second)
	if s.Linger != "" && b.Linger == 0 {
		b.Linger = -1 // none
	}
	if s.SysInterval != "" && b.SysInterval == 0 {
		b.SysInterval = -1 // none
	}
	if w.QueueKeep != "" && l.QueueKeep == 0 {
		l.QueueKeep = -1 // no bound
	}
	if s.stopWithin == 0 {
		s.stopWithin = defaultStop
	}
	if s.Locations.Keep != "" && s.keep == 0 {
		s.keep = -1 // none
	}
	return errs
}

// mayBeZero are the durations whose 0s means something; any other 0 would be taken
// for "not set", which is the default.
var mayBeZero = []string{"linger", "sys_interval", "queue_keep", "retained_keep", "server_keep_alive", "keep"}

// zero refuses what is not above 0.
func (s *settings) zero(path []any, text string) error {
	return s.fault(path, "%s is %s; a bound is above 0", path[len(path)-2], text)
}

// numbers refuses what would be taken for "not set".
func (s *settings) numbers() error {
	w := &s.Limits
	for name, n := range map[string]int{"receive_maximum": w.ReceiveMaximum, "window": w.Window, "topic_aliases": w.TopicAliases,
		"queue_messages": w.QueueMessages, "pending_messages": w.PendingMessages, "inbox_events": w.InboxEvents, "inboxes": w.Inboxes,
		"retained": w.Retained, "subscriptions": w.Subscriptions, "sessions": w.Sessions, "topic": w.Topic, "topic_levels": w.TopicLevels} {
		if path := []any{"limits", name, ""}; n < 0 || n == 0 && s.doc != nil && s.doc.Has("limits", name) {
			return s.zero(path, strconv.Itoa(n))
		}
	}
	for name, n := range map[string]int{"fixes": s.Locations.Fixes, "trackers": s.Locations.Trackers, "all_trackers": s.Locations.AllTrackers} {
		if path := []any{"locations", name, ""}; n < 0 || n == 0 && s.doc != nil && s.doc.Has("locations", name) {
			return s.zero(path, strconv.Itoa(n))
		}
	}
	if s.CPUs < 0 || s.CPUs > 1024 {
		return s.fault([]any{"cpus", ""}, "cpus is %d; wanted is 0 (all) to 1024", s.CPUs)
	}
	if s.broker.Memory != 0 && s.broker.Memory < leastMemory {
		return s.fault([]any{"memory", ""}, "memory is %s; at least %s", s.Memory, showSize(leastMemory))
	}
	return nil
}

// addresses checks where to listen.
func (s *settings) addresses() error {
	for i, l := range s.Listen {
		u, err := url.Parse(l)
		if err != nil || u.Host == "" {
			return s.fault([]any{"listen", i}, "listen %q is no address; write it like mqtt://0.0.0.0:1883", l)
		}
		switch u.Scheme {
		case "mqtt", "ws":
		case "mqtts", "wss":
			if s.TLS.Cert == "" {
				return s.fault([]any{"listen", i}, "listen %q needs tls: {cert: …, key: …}", l)
			}
		default:
			return s.fault([]any{"listen", i}, "listen %q: the scheme is mqtt, mqtts, ws or wss", l)
		}
	}
	if u := badPort(s.Listen); u >= 0 {
		return s.fault([]any{"listen", u}, "listen %q: a port is a number from 0 to 65535", s.Listen[u])
	}
	for _, w := range s.web() {
		if _, port, err := net.SplitHostPort(hostPort(w.address)); err != nil || !isPort(port) {
			return s.fault([]any{w.key, ""}, "%s %q is no address; write it like 127.0.0.1:8080 or https://0.0.0.0:8443", w.key, w.address)
		}
		if strings.HasPrefix(w.address, secure) && s.TLS.Cert == "" {
			return s.fault([]any{w.key, ""}, "%s %q needs tls: {cert: …, key: …}", w.key, w.address)
		}
	}
	if (s.TLS.Cert == "") != (s.TLS.Key == "") {
		return s.fault([]any{"tls"}, "tls needs both cert and key")
	}
	if s.TLS.ClientCA != "" && s.TLS.Cert == "" {
		return s.fault([]any{"tls", "client_ca"}, "tls: client_ca needs cert and key, too")
	}
	return nil
}

// webAddress is one of the HTTP ports that are configured.
type webAddress struct{ key, address string }

func (s *settings) web() (all []webAddress) {
	for _, w := range []webAddress{{"http", s.HTTP}, {"admin", s.Admin}} {
		if w.address != "" {
			all = append(all, w)
		}
	}
	return all
}

// badPort is the first address whose port is none, or -1.
func badPort(listen []string) int {
	return slices.IndexFunc(listen, func(l string) bool {
		u, err := url.Parse(l)
		return err == nil && u.Port() != "" && !isPort(u.Port())
	})
}

func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

// checkOpen refuses to be open to the world by accident.
func (s *settings) checkOpen() error {
	if s.Users != "" {
		return nil
	}
	for _, w := range s.web() {
		if host, _, err := net.SplitHostPort(hostPort(w.address)); err == nil && !loopback(host) && (w.key == "admin" || !s.AllowAnonymous) {
			return s.fault([]any{w.key, ""}, "%s %s: %s", w.key, w.address, signIn(w.key))
		}
	}
	if s.AllowAnonymous {
		return nil
	}
	for i, l := range s.Listen {
		if u, err := url.Parse(l); err == nil && !loopback(u.Hostname()) {
			return s.fault([]any{"listen", i}, "listen %s: %s", l, signIn("listen"))
		}
	}
	return nil
}

// signIn says what is missing for an address that others can reach.
func signIn(key string) string {
	if key == "admin" {
		return "on other than loopback addresses operators must sign in as a user of role admin: give a users file"
	}
	return "on other than loopback addresses clients must sign in: give a users file, or allow_anonymous (--allow-anonymous)"
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (s *settings) logging() error {
	if s.Log.Level != "" {
		if err := s.level.UnmarshalText([]byte(s.Log.Level)); err != nil {
			return s.fault([]any{"log", "level", ""}, "log level %q is not known; debug, info, warn or error", s.Log.Level)
		}
	}
	if f := s.Log.Format; f != "" && f != "text" && f != "json" {
		return s.fault([]any{"log", "format", ""}, "log format %q is not known; text or json", f)
	}
	return nil
}

// files looks whether the files that are named can be read.
func (s *settings) files() error {
	named := map[string]string{"users": s.Users, "acl": s.ACL}
	for name, file := range named {
		if _, err := os.Stat(file); file != "" && err != nil {
			return s.fault([]any{name, ""}, "%s: %s", name, noSuch(err))
		}
	}
	for i, file := range s.Rules {
		if _, err := rulesFiles([]string{file}); err != nil {
			return s.fault([]any{"rules", i}, "%s", err)
		}
	}
	return nil
}

func noSuch(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) && errors.Is(err, fs.ErrNotExist) {
		return p.Path + " does not exist"
	}
	return err.Error()
}
