package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// plain starts a broker without hooks and returns -h and -p for it.
func plain(t *testing.T) []string {
	t.Helper()
	b, err := broker.New(broker.Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	a, err := b.Listen("mqtt://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(a.String())
	return []string{"-h", host, "-p", port}
}

// parse reads a command line of pub or sub.
func parse(t *testing.T, args []string) *cli {
	t.Helper()
	var c cli
	p, err := kong.New(&c, kong.NoDefaultHelp(), kong.Vars{"version": ""})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Parse(args); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return &c
}

func publish(t *testing.T, at []string, stdin string, args ...string) error {
	t.Helper()
	c := parse(t, append(append([]string{"pub"}, at...), args...))
	return c.Pub.run(t.Context(), strings.NewReader(stdin), io.Discard)
}

func subscribe(ctx context.Context, t *testing.T, at []string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := parse(t, append(append([]string{"sub"}, at...), args...))
	err := c.Sub.run(ctx, &out, io.Discard)
	return out.String(), err
}

// What pub sends to a lasting session is what sub prints, at every level and QoS.
func TestPubAndSub(t *testing.T) {
	at := plain(t)
	for _, row := range []struct{ name, pub, stdin, sub, want string }{
		{"a payload with a hyphen", "-m -5 -q 1", "", "", "-5\n"},
		{"an empty payload", "--message= -q 1", "", "-v", "t \n"},
		{"no payload", "-n -q 2", "", "-F %l%%", "0%\n"},
		{"lines", "-l -q 1", "a\nb\n", "-C 2", "a\nb\n"},
		{"all of stdin", "-s -q 2", "a\nb", "-N -q 2", "a\nb"},
		{"repeats", "-m x --repeat 3 -q 1", "", "-C 3 -F %t:%p:%q", "t:x:1\nt:x:1\nt:x:1\n"},
		{"the lower QoS counts", "-m x -q 2", "", "-q 1 -F %q", "1\n"},
		{"a filter that leaves out", "-m x -q 1", "", "-T no/+ -F %x", "78\n"},
	} {
		for _, v := range []string{"31", "311", "5"} {
			t.Run(row.name+" at "+v, func(t *testing.T) {
				flags := append(strings.Fields("-V "+v+" -c -i session -t t -q 2 -W 5"), strings.Fields(row.sub)...)
				if !strings.Contains(row.sub, "-C") {
					flags = append(flags, "-C", "1")
				}
				if _, err := subscribe(t.Context(), t, at, append(flags, "-E")...); err != nil {
					t.Fatal(err)
				}
				if err := publish(t, at, row.stdin, append(strings.Fields(row.pub), "-V", v, "-t", "t")...); err != nil {
					t.Fatal(err)
				}
				got, err := subscribe(t.Context(), t, at, flags...)
				if err != nil || got != row.want {
					t.Fatalf("got %q, %v, want %q", got, err, row.want)
				}
			})
		}
	}
}

func TestPropertiesFromPubToSub(t *testing.T) {
	at := plain(t)
	flags := strings.Fields("-V 5 -c -i session -t t -q 1 -W 5 -C 1")
	if _, err := subscribe(t.Context(), t, at, append(flags, "-E")...); err != nil {
		t.Fatal(err)
	}
	err := publish(t, at, "", "-V", "5", "-t", "t", "-m", "x", "-q", "1", "-D", "publish", "content-type", "text/plain",
		"-D", "publish", "response-topic", "r", "-D", "publish", "correlation-data", "c", "-D", "publish", "message-expiry-interval", "600",
		"-D", "publish", "payload-format-indicator", "1", "-D", "publish", "user-property", "a", "-b", "-D", "publish", "user-property", "a", "c")
	if err != nil {
		t.Fatal(err)
	}
	got, err := subscribe(t.Context(), t, at, append(flags, "-F", "%C %R %D %F %P, %E")...)
	if want := "text/plain r c 1 a:-b a:c, "; err != nil || !strings.HasPrefix(got, want) {
		t.Fatalf("got %q, %v, want %q", got, err, want)
	}
	if left := strings.TrimSpace(got[strings.LastIndex(got, " "):]); left != "600" && left != "599" && left != "598" {
		t.Errorf("%s seconds are left of 600", left)
	}
}

// sub outlives a restart of the broker, and ends when the broker has no place for
// it.
func TestSubConnectsAgain(t *testing.T) {
	for _, v := range []string{"311", "5"} {
		t.Run(v, func(t *testing.T) {
			open := func(address string) (*broker.Broker, string) {
				b, err := broker.New(broker.Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
				if err != nil {
					t.Fatal(err)
				}
				a, err := b.Listen("mqtt://" + address)
				if err != nil {
					t.Fatal(err)
				}
				return b, a.String()
			}
			b, address := open("127.0.0.1:0")
			host, port, _ := net.SplitHostPort(address)
			at := []string{"-h", host, "-p", port}
			ended := make(chan error, 1)
			if err := publish(t, at, "", "-t", "t", "-m", "before", "-r", "-q", "1"); err != nil {
				t.Fatal(err)
			}
			read, out := io.Pipe()
			go func() {
				c := parse(t, append([]string{"sub", "-V", v, "-t", "t", "-q", "1", "-C", "2", "-W", "20"}, at...))
				ended <- c.Sub.run(t.Context(), out, io.Discard)
				out.Close() //nolint:errcheck // a pipe's never fails
			}()
			lines := bufio.NewScanner(read)
			if !lines.Scan() || lines.Text() != "before" { // the next broker has none of that
				t.Fatalf("got %q, %v; sub ended: %v", lines.Text(), lines.Err(), <-ended)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			b, _ = open(address)
			defer b.Close() //nolint:errcheck // the test ends
			if err := publish(t, at, "", "-t", "t", "-m", "after", "-r", "-q", "1"); err != nil {
				t.Fatal(err)
			}
			if !lines.Scan() || lines.Text() != "after" {
				t.Fatalf("got %q, %v", lines.Text(), lines.Err())
			}
			if err := <-ended; err != nil || lines.Scan() {
				t.Fatalf("then %q, %v", lines.Text(), err)
			}
		})
	}
}

func TestSubEndsAsItWasTold(t *testing.T) {
	at := plain(t)
	if _, err := subscribe(t.Context(), t, at, "-t", "t", "-W", "0.1"); err != nil {
		t.Errorf("-W alone: %v", err)
	}
	if _, err := subscribe(t.Context(), t, at, "-t", "t", "-W", "0.1", "-C", "1"); err == nil {
		t.Error("-C was not reached, and nobody says so")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := subscribe(ctx, t, at, "-t", "t"); err != nil {
		t.Errorf("ended from outside: %v", err)
	}
}

func TestFormats(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	m := &mqtt.Message{Topic: "a/b", Payload: []byte(`{"x":"<1>"}`), QoS: 1, Retain: true, Expires: at.UnixMilli() + 1500}
	for f, want := range map[string]string{
		`%t\t%p\n`: "a/b\t{\"x\":\"<1>\"}\n",
		"%q%r%l":   "1111",
		"%I %U":    "2026-01-02T03:04:05+0000 1767323045.000006000",
		"%E":       "2",
		"%j":       `{"tst":"2026-01-02T03:04:05.000006+0000","topic":"a/b","qos":1,"retain":1,"payloadlen":11,"payload":"{\"x\":\"<1>\"}","properties":{"message-expiry-interval":2}}`,
		"%J":       `{"tst":"2026-01-02T03:04:05.000006+0000","topic":"a/b","qos":1,"retain":1,"payloadlen":11,"payload":{"x":"<1>"},"properties":{"message-expiry-interval":2}}`,
	} {
		c, err := parseFormat(f)
		if got := string(c.appendTo(nil, m, at)); err != nil || got != want {
			t.Errorf("%s gives %s, %v, want %s", f, got, err, want)
		}
	}
	for _, f := range []string{"%", `\`, "%z", `\z`} {
		if _, err := parseFormat(f); err == nil {
			t.Errorf("%q is a format", f)
		}
	}
}

func TestWrongFlagsOfPubAndSubExitWith2(t *testing.T) {
	for _, line := range []string{"pub -t x", "pub -m y", "pub -t x/# -m y", "pub -t x -m y -n", "pub -t x -m y -q 3", "pub -t x -m y -V 4.4",
		"pub -t x -m y -D publish content-type a", "pub -V 5 -t x -m y -D publish foo a", "pub -V 5 -t x -m y -D foo foo a",
		"pub -V 5 -t x -m y -D publish payload-format-indicator 2", "pub -V 5 -t x -m y -D will content-type a", "pub -V 5 -t x -m y -x soon",
		"pub -t x -m y -P secret", "pub -L nonsense -m y", "pub -t x -m y -i a -I b", "pub -t x -m y --cert pubsub_test.go",
		"pub -t x -m y --cafile pubsub_test.go", "sub", "sub -t a/#/b", "sub -t $share/g", "sub -t a -F %z", "sub -t a -c",
		"sub -V 5 -t a -D subscribe subscription-identifier 268435456", "pub -t x -m"} {
		if code := run(strings.Fields(line)); code != 2 {
			t.Errorf("%s exits with %d", line, code)
		}
	}
	if code := run(strings.Fields("pub -L mqtt://127.0.0.1:1 -t x -m y --quiet")); code != 1 {
		t.Errorf("nobody there: exits with %d", code)
	}
}
