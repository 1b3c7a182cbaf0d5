package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
)

// What an operator may get wrong in geocast.yaml, and what is said about it.
func TestConfigMistakes(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"unknown key", "dta: x", `c.yaml:1:1: unknown key "dta" in this file; did you mean "data"?`},
		{"unknown limit", "limits: {queue_message: 3}", `c.yaml:1:10: unknown key "queue_message" in limits; did you mean "queue_messages"?`},
		{"size without a unit", "memory: 512", `c.yaml:1:9: "512" is no size; write it with a unit, like 512MB or 2GB`},
		{"size with a wrong unit", "memory: 512 MiX", `c.yaml:1:9: "512 MiX" is no size`},
		{"too little memory", "memory: 1MB", `c.yaml:1:9: memory is 1MB; at least 192MB`},
		{"duration without a unit", "limits: {connect: 10}", `c.yaml:1:19: "10" is no duration; write it with a unit`},
		{"text for a number", "limits: {window: many}", `c.yaml:1:18: window is a text; a number is wanted here`},
		{"negative bound", "limits: {window: -1}", `c.yaml:1:18: window is -1; a bound is above 0`},
		{"a bound of nothing", "limits: {window: 0}", `c.yaml:1:18: window is 0; a bound is above 0`},
		{"a size of nothing", "limits: {queue_bytes: 0MB}", `c.yaml:1:23: queue_bytes is 0MB; a bound is above 0`},
		{"a time of nothing", "limits: {session_expiry: 0s}", `c.yaml:1:26: session_expiry is 0s; a bound is above 0`},
		{"a tracker's fixes", "locations: {fixes: 0}", `c.yaml:1:20: fixes is 0; a bound is above 0`},
		{"bound out of range", "limits: {receive_maximum: 70000}", `c.yaml:1:27: receive_maximum 70000 is not in 1..65535`},
		{"no scheme", "listen: 127.0.0.1:1883", `c.yaml:1:9: listen "127.0.0.1:1883" is no address; write it like mqtt://0.0.0.0:1883`},
		{"wrong scheme", "listen: [http://127.0.0.1:1883]", `c.yaml:1:10: listen "http://127.0.0.1:1883": the scheme is mqtt, mqtts, ws or wss`},
		{"TLS without a certificate", "listen: [mqtts://127.0.0.1:8883]", `c.yaml:1:10: listen "mqtts://127.0.0.1:8883" needs tls`},
		{"half of TLS", "tls: {cert: x.pem}", `c.yaml:1:1: tls needs both cert and key`},
		{"open to the world", "listen: mqtt://0.0.0.0:1883", `c.yaml:1:9: listen mqtt://0.0.0.0:1883: on other than loopback addresses clients must sign in`},
		{"open to the world by HTTP", "http: 0.0.0.0:80", `c.yaml:1:7: http 0.0.0.0:80: on other than loopback`},
		{"operators open to the world", "admin: 0.0.0.0:81\nallow_anonymous: true", `c.yaml:1:8: admin 0.0.0.0:81: on other than loopback addresses operators must sign in`},
		{"HTTPS without a certificate", "http: https://127.0.0.1:8443", `c.yaml:1:7: http "https://127.0.0.1:8443" needs tls`},
		{"port out of range", "listen: mqtt://127.0.0.1:70000", `c.yaml:1:9: listen "mqtt://127.0.0.1:70000": a port is a number from 0 to 65535`},
		{"client CA without a certificate", "tls: {client_ca: ca.pem}", `c.yaml:1:7: tls: client_ca needs cert and key`},
		{"rules that are not there", "rules: [gone]", `c.yaml:1:9: rules: `},
		{"admin without a port", "admin: localhost", `c.yaml:1:8: admin "localhost" is no address`},
		{"missing users file", "users: nobody.yaml", `c.yaml:1:8: users: `},
		{"log level", "log: {level: loud}", `c.yaml:1:14: log level "loud" is not known; debug, info, warn or error`},
		{"later version", "version: 2", `c.yaml:1:10: version 2 is not known; this geocast reads version 1`},
		{"no YAML", "listen: [", `c.yaml:1:9: `},
		{"a list at the top", "- a", `c.yaml:1:1: `},
	} {
		t.Run(row.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "c.yaml")
			if err := os.WriteFile(file, []byte(row.text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			f := serveFlags{Config: file}
			_, err := f.settings()
			if err == nil {
				t.Fatal("it is taken")
			}
			if got := strings.TrimPrefix(err.Error(), filepath.Dir(file)+"/"); !strings.HasPrefix(got, row.want) {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
		})
	}
}

func TestFlagsGoOverTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("data: here\nmemory: 256MB\nlimits: {session_expiry: 2d, packet: 64KB}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := serveFlags{Config: file, Memory: "1GB"}
	s, err := f.settings()
	if err != nil {
		t.Fatal(err)
	}
	b := s.broker
	if b.Memory != 1<<30 || b.Data != filepath.Join(filepath.Dir(file), "here") || b.Limits.SessionExpiry != 48*time.Hour || b.Limits.Packet != 64<<10 {
		t.Errorf("got %+v", b)
	}
}

// The files that init writes pass config check, and no file is overwritten.
func TestInitWritesWhatCheckTakes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	if code := run([]string{"init", dir}); code != 0 {
		t.Fatalf("init: exit code %d", code)
	}
	if code := run([]string{"config", "check", "-c", filepath.Join(dir, "geocast.yaml")}); code != 0 {
		t.Errorf("config check: exit code %d", code)
	}
	if code := run([]string{"config", "print", "-c", filepath.Join(dir, "geocast.yaml")}); code != 0 {
		t.Errorf("config print: exit code %d", code)
	}
	if code := run([]string{"init", dir}); code != 2 {
		t.Errorf("init over a folder that is there: exit code %d, want 2", code)
	}
}

func TestUnits(t *testing.T) {
	for text, want := range map[string]int64{"512MB": 512 << 20, "1.5 GB": 3 << 29, "64kb": 64 << 10, "100B": 100} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]time.Duration{"30d": 720 * time.Hour, "1.5d": 36 * time.Hour, "250ms": 250 * time.Millisecond} {
		if got, err := parseSpan(text); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MB", "-1MB", "1XB", "NaNMB", "1e99MB"} {
		if n, err := parseSize(text); err == nil {
			t.Errorf("%q is taken as %d", text, n)
		}
	}
}

// Every setting stands in the file that init writes, and what it shows as a default
// is one.
func TestStarterShowsEverySetting(t *testing.T) {
	text, err := starter.ReadFile("starter/geocast.yaml")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`(?m)^# ( *[a-z_]+:.*)$`).ReplaceAllString(string(text), "$1")
	shown = regexp.MustCompile(`(?m)^(tls|origins|reserve|http):.*\n`).ReplaceAllString(shown, "")
	dir := t.TempDir()
	for name, text := range map[string]string{"geocast.yaml": shown, "acl.yaml": "", "users.yaml": "", "rules.yaml": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := settingsOf(t, filepath.Join(dir, "geocast.yaml"))
	plain := filepath.Join(dir, "plain.yaml")
	if err := os.WriteFile(plain, []byte("data: data\nusers: users.yaml\nacl: acl.yaml\nrules: rules.yaml\nadmin: 127.0.0.1:8081\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := s.inUse(), settingsOf(t, plain).inUse(); !reflect.DeepEqual(got, want) {
		t.Errorf("shown as defaults:\n%+v\nare:\n%+v", got, want)
	}
	for _, key := range keys(reflect.TypeFor[config]()) {
		if !regexp.MustCompile(`(?m)^[# ]*(.*[{ ])?` + key + `:( |$)`).Match(text) {
			t.Errorf("%s is not in the file that init writes", key)
		}
	}
	for _, page := range []string{string(text), read(t, "../../docs/operations.md")} {
		if least := "at least " + showSize(leastMemory); !strings.Contains(page, least) {
			t.Errorf("a description of memory does not say %q", least)
		}
	}
	if n := reflect.TypeFor[broker.Limits]().NumField(); n != reflect.TypeFor[limits]().NumField() {
		t.Errorf("%d limits of the broker, %d keys below limits", n, reflect.TypeFor[limits]().NumField())
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func settingsOf(t *testing.T, file string) *settings {
	t.Helper()
	f := serveFlags{Config: file}
	s, err := f.settings()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// keys are all keys of a configuration, those below others included.
func keys(t reflect.Type) (all []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		all = append(all, f.Tag.Get("yaml"))
		if f.Type.Kind() == reflect.Struct {
			all = append(all, keys(f.Type)...)
		}
	}
	return all
}

// docs/operations.md has every key.
func TestEverySettingIsDocumented(t *testing.T) {
	page := read(t, "../../docs/operations.md")
	for _, key := range keys(reflect.TypeFor[config]()) {
		if !strings.Contains(page, "`"+key+"`") {
			t.Errorf("%s is not in docs/operations.md", key)
		}
	}
}

// FuzzConfig: any text is settings, or a fault that names the file.
func FuzzConfig(f *testing.F) {
	starter, err := starter.ReadFile("starter/geocast.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(starter)
	f.Add([]byte("listen: [mqtt://127.0.0.1:0]\nmemory: 1e9MB\nlimits: {packet: 9999999999GB, connect: 1e400d}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseConfig("geocast.yaml", text)
		if err == nil {
			err = errors.Join(errors.Join(s.sizes()...), s.numbers(), s.addresses(), s.checkOpen(), s.logging())
		}
		if err != nil && !strings.HasPrefix(err.Error(), "geocast.yaml") {
			t.Fatalf("the fault names no file: %v", err)
		}
	})
}
