// Package conformance_test runs stock clients against the built program: what
// others wrote, as users have it, with no code of ours on their side.
package conformance_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program is the built geocast.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "geocast-")
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "geocast")
	out, err := exec.Command("go", "build", "-o", name, "../cmd/geocast").CombinedOutput()
	os.Stderr.Write(out) //nolint:errcheck // err says that it failed
	return name, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if name, err := program(); err == nil {
		os.RemoveAll(filepath.Dir(name)) //nolint:errcheck // a temporary folder
	}
	os.Exit(code)
}

var listening = regexp.MustCompile(`url=(mqtt|ws)://127\.0\.0\.1:(\d+)`)

// serve starts the program over dir, and returns its ports for MQTT and WebSocket
// and what stops it.
func serve(t *testing.T, dir string) (tcp, web string, stop func()) {
	t.Helper()
	name, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, "serve", "--data", dir, "--listen", "mqtt://127.0.0.1:0", "--listen", "ws://127.0.0.1:0")
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ports, ended := make(chan [2]string, 1000), make(chan struct{})
	go func() {
		defer close(ended)
		for s := bufio.NewScanner(log); s.Scan(); {
			if m := listening.FindStringSubmatch(s.Text()); m != nil {
				ports <- [2]string{m[1], m[2]}
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // Wait says how it ended
		<-ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("the broker ended with %v", err)
		}
	})
	t.Cleanup(stop)
	for tcp == "" || web == "" {
		select {
		case p := <-ports:
			if p[0] == "mqtt" {
				tcp = p[1]
			} else {
				web = p[1]
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the broker does not start")
		}
	}
	return tcp, web, stop
}

// run runs a tool to its end and returns what it printed on stdout.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// subscriber is a tool that prints messages until it has enough.
type subscriber struct {
	cmd   *exec.Cmd
	out   strings.Builder // its reader's until ended
	ended chan struct{}
}

// wait returns all that it printed.
func (s *subscriber) wait() (string, error) {
	<-s.ended
	return s.out.String(), s.cmd.Wait()
}

// start runs a tool beside the test and waits for the line on stdout or stderr
// that says that it is there; that line is not kept.
func start(t *testing.T, there string, name string, args ...string) *subscriber {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	s := &subscriber{cmd: exec.CommandContext(ctx, name, args...), ended: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stdout, s.cmd.Stderr = w, w
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close() //nolint:errcheck // the tool has it
	ready := make(chan struct{})
	go func() {
		defer close(s.ended)
		once := sync.OnceFunc(func() { close(ready) })
		for lines := bufio.NewScanner(r); lines.Scan(); {
			if l := lines.Text(); strings.Contains(l, there) {
				once()
			} else {
				s.out.WriteString(l + "\n")
			}
		}
	}()
	t.Cleanup(func() { <-s.ended; r.Close() }) //nolint:errcheck // read to its end
	select {
	case <-ready:
	case <-s.ended:
		t.Fatalf("%s ended before it said %q:\n%s", name, there, s.out.String())
	case <-ctx.Done():
		t.Fatalf("%s does not say %q", name, there)
	}
	return s
}

func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, tool+" is not installed (Debian: mosquitto-clients, nodejs and npm)")
		}
	}
}

// missing skips a test whose client is not there; with CI=true it is an error, so
// that nothing is skipped where it must run.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// eachTool runs a test with mosquitto's tools and with ours, which take the same
// flags.
func eachTool(t *testing.T, test func(t *testing.T, pub, sub []string)) {
	t.Run("mosquitto", func(t *testing.T) {
		need(t, "mosquitto_pub", "mosquitto_sub")
		test(t, []string{"mosquitto_pub"}, []string{"mosquitto_sub"})
	})
	t.Run("geocast", func(t *testing.T) {
		name, err := program()
		if err != nil {
			t.Fatal(err)
		}
		test(t, []string{name, "pub"}, []string{name, "sub"})
	})
}

// with appends the words of flags to a tool.
func with(tool []string, port, flags string) (string, []string) {
	return tool[0], append(append(append([]string{}, tool[1:]...), "-h", "127.0.0.1", "-p", port), strings.Fields(flags)...)
}

var versions = []string{"31", "311", "5"}

// version spells -V for mosquitto 2, whose word for 3.1 is mqttv31.
func version(v string) string {
	return map[string]string{"31": "mqttv31", "311": "mqttv311", "5": "mqttv5"}[v]
}

func TestLastingSessionAtEachLevelAndQoS(t *testing.T) {
	port, _, _ := serve(t, t.TempDir())
	eachTool(t, func(t *testing.T, pub, sub []string) {
		for _, v := range versions {
			for _, q := range []string{"0", "1", "2"} {
				t.Run(v+" QoS "+q, func(t *testing.T) {
					topic := strings.ReplaceAll(t.Name(), "#", "")
					session := "-V " + version(v) + " -c -i " + strings.ReplaceAll(topic, "/", "-") + " -q 2 -t " + topic
					name, args := with(sub, port, session+" -E")
					run(t, name, args...)
					name, args = with(pub, port, "-V "+version(v)+" -q "+q+" -m missed -t "+topic)
					run(t, name, args...)
					if q == "0" { // not kept for who is offline
						name, args = with(pub, port, "-V "+version(v)+" -q 1 -m last -t "+topic)
						run(t, name, args...)
					}
					name, args = with(sub, port, session+" -C 1 -W 10 -F %p:%q")
					want := "missed:" + q + "\n"
					if q == "0" {
						want = "last:1\n"
					}
					if got := run(t, name, args...); got != want {
						t.Errorf("got %q, want %q", got, want)
					}
				})
			}
		}
	})
}

func TestLastingSessionOverARestart(t *testing.T) {
	eachTool(t, func(t *testing.T, pub, sub []string) {
		dir := t.TempDir()
		port, _, stop := serve(t, dir)
		for _, v := range versions {
			name, args := with(sub, port, "-V "+version(v)+" -c -i s"+v+" -q 1 -t news -E")
			run(t, name, args...)
		}
		for _, m := range []string{"one", "two", "three"} {
			name, args := with(pub, port, "-q 1 -t news -m "+m)
			run(t, name, args...)
		}
		stop()
		port, _, _ = serve(t, dir)
		for _, v := range versions {
			name, args := with(sub, port, "-V "+version(v)+" -c -i s"+v+" -q 1 -t news -C 3 -W 10")
			if got := run(t, name, args...); got != "one\ntwo\nthree\n" {
				t.Errorf("%s: got %q", v, got)
			}
		}
	})
}

func TestRetained(t *testing.T) {
	port, _, _ := serve(t, t.TempDir())
	eachTool(t, func(t *testing.T, pub, sub []string) {
		for _, v := range versions {
			topic := t.Name() + "/" + v
			name, args := with(pub, port, "-V "+version(v)+" -r -q 1 -m kept -t "+topic)
			run(t, name, args...)
			name, args = with(sub, port, "-V "+version(v)+" -q 1 -C 1 -W 10 -F %p:%r -t "+topic)
			if got := run(t, name, args...); got != "kept:1\n" {
				t.Errorf("%s: got %q", v, got)
			}
			name, args = with(pub, port, "-V "+version(v)+" -r -q 1 -n -t "+topic)
			run(t, name, args...)
			name, args = with(pub, port, "-V "+version(v)+" -r -q 1 -m end -t "+topic+"/end")
			run(t, name, args...)
			name, args = with(sub, port, "-V "+version(v)+" -q 1 -C 1 -W 10 -t "+topic+"/#")
			if got := run(t, name, args...); got != "end\n" {
				t.Errorf("%s: after its deletion: got %q", v, got)
			}
		}
	})
}

func TestWill(t *testing.T) {
	port, _, _ := serve(t, t.TempDir())
	eachTool(t, func(t *testing.T, pub, sub []string) {
		name, args := with(pub, port, "-r -q 1 -t alive -m alive")
		run(t, name, args...)
		for _, v := range versions {
			topic := "will/" + t.Name() + "/" + v
			watch := "-c -i watch-" + v + " -q 1 -t " + topic
			name, args := with(sub, port, watch+" -E")
			run(t, name, args...)
			name, args = with(sub, port, "-V "+version(v)+" -i w"+v+" -t alive --will-topic "+topic+" --will-payload gone --will-qos 1")
			dying := start(t, "alive", name, args...)
			if err := dying.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			dying.cmd.Wait() //nolint:errcheck // it was killed
			name, args = with(sub, port, watch+" -C 1 -W 10")
			if got := run(t, name, args...); got != "gone\n" {
				t.Errorf("%s: got %q", v, got)
			}
		}
	})
}

// Each tool's publishes reach the other's subscriptions, with their properties.
func TestToolsUnderstandEachOther(t *testing.T) {
	need(t, "mosquitto_pub", "mosquitto_sub")
	port, _, _ := serve(t, t.TempDir())
	ours, err := program()
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct{ pub, sub []string }{
		"ours to theirs": {[]string{ours, "pub"}, []string{"mosquitto_sub"}},
		"theirs to ours": {[]string{"mosquitto_pub"}, []string{ours, "sub"}},
	} {
		t.Run(name, func(t *testing.T) {
			session := "-V mqttv5 -c -i both-" + strings.ReplaceAll(name, " ", "-") + " -q 2 -t both/#"
			n, args := with(row.sub, port, session+" -E")
			run(t, n, args...)
			n, args = with(row.pub, port, "-V mqttv5 -q 2 -t both/x -m hi -D publish content-type text/plain -D publish response-topic r"+
				" -D publish correlation-data c -D publish user-property a b -D publish user-property a c -D publish payload-format-indicator 1")
			run(t, n, args...)
			n, args = with(row.sub, port, session+" -C 1 -W 10 -F %t|%p|%q|%C|%R|%D|%P|%F")
			if got, want := run(t, n, args...), "both/x|hi|2|text/plain|r|c|a:b a:c|1\n"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// MQTT.js, as in a browser, over WebSocket.
func TestMQTTjs(t *testing.T) {
	need(t, "node")
	if _, err := os.Stat(filepath.Join("node_modules", "mqtt")); err != nil {
		missing(t, "MQTT.js is not installed (npm install --no-package-lock, in conformance)")
	}
	_, web, _ := serve(t, t.TempDir())
	if got, want := run(t, "node", "mqttjs.js", "ws://127.0.0.1:"+web+"/mqtt"), "ok 3\nok 4\nok 5\nok breaks 4\nok breaks 5\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Python paho, over TCP and WebSocket.
func TestPythonPaho(t *testing.T) {
	python := "/usr/bin/python3" // the system's, which has Debian's modules
	need(t, python)
	if err := exec.Command(python, "-c", "import paho.mqtt.client").Run(); err != nil {
		missing(t, "Python paho is not installed (Debian: python3-paho-mqtt)")
	}
	tcp, web, _ := serve(t, t.TempDir())
	want := "ok tcp 3\nok tcp 4\nok tcp 5\nok websockets 3\nok websockets 4\nok websockets 5\n"
	if got := run(t, python, "python_client.py", tcp, web); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What the OwnTracks apps do: level 3, a keep alive of an hour, subscriptions at
// QoS 2 with wildcards, and reports in their own JSON.
func TestOwnTracks(t *testing.T) {
	port, _, _ := serve(t, t.TempDir())
	eachTool(t, func(t *testing.T, pub, sub []string) {
		user := strings.ToLower(filepath.Base(t.Name()))
		session := "-V mqttv31 -k 3600 -c -u " + user + " -i " + user + "phone -q 2 -t owntracks/+/+ -t owntracks/+/+/event -t owntracks/+/+/info -t owntracks/" + user + "/phone/cmd"
		name, args := with(sub, port, session+" -E")
		run(t, name, args...)
		report := `{"_type":"location","tid":"ph","lat":48.2082,"lon":16.3738,"tst":1790000000,"acc":12,"batt":80,"t":"u"}`
		name, args = with(pub, port, "-V mqttv31 -k 3600 -u "+user+" -i "+user+"phone2 -q 1 -r -t owntracks/"+user+"/phone")
		run(t, name, append(args, "-m", report)...)
		name, args = with(sub, port, "-u "+user+" -q 1 -C 1 -W 10 -t users/"+user+"/location")
		if got := run(t, name, args...); !strings.Contains(got, `"lat":48.2082,"lon":16.3738`) {
			t.Errorf("got %s", got)
		}
	})
}
