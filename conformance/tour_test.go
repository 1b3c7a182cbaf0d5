package conformance_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestTour pastes the README's tour into a shell, and looks for what the README says
// is printed. Ports aside: the broker takes a free one, and mosquitto's tools read it
// from their configuration.
func TestTour(t *testing.T) {
	need(t, "bash", "mosquitto_pub", "mosquitto_sub")
	script, want := tour(t)
	if len(want) < 6 {
		t.Fatalf("the tour shows %d lines: this test does not find it", len(want))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", tourSleep+script)
	cmd.Dir = t.TempDir()
	cmd.Env = tourEnv(t, cmd.Dir)
	cmd.WaitDelay = 5 * time.Second // what it left running keeps its output open
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for _, line := range want {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*")
		if n := len(regexp.MustCompile("(?m)^"+pattern+"$").FindAll(out, 1)); n == 0 {
			t.Errorf("nothing printed is like %s", line)
		}
	}
	if n := strings.Count(string(out), `"body":"hello"`); n != 1 {
		t.Errorf("hello came %d times", n)
	}
	if t.Failed() {
		t.Logf("it printed\n%s", out)
	}
}

// tourSleep waits a second and then for the broker: a busy machine may need longer.
const tourSleep = `sleep() { command sleep 1; until (exec 3<>/dev/tcp/127.0.0.1/$PORT) 2>/dev/null; do command sleep 0.1; done; }
`

// tour is what the README's section has to paste, and which lines it says are printed.
func tour(t *testing.T) (script string, want []string) {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Five minutes")
	section, _, _ = strings.Cut(section, "\n## ")
	var b strings.Builder
	for i, block := range strings.Split(section, "```") {
		if commands, ok := strings.CutPrefix(block, "sh\n"); ok && i%2 == 1 {
			b.WriteString(commands)
		}
	}
	for line := range strings.Lines(b.String()) {
		if shown, ok := strings.CutPrefix(line, "#> "); ok {
			want = append(want, strings.TrimSpace(shown))
		}
	}
	return b.String(), want
}

// tourEnv makes dir look like a clone of the repository with a port of its own.
func tourEnv(t *testing.T, dir string) []string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	name, err := program()
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string, mode os.FileMode) {
		name = filepath.Join(dir, name)
		must(os.MkdirAll(filepath.Dir(name), 0o755))
		must(os.WriteFile(name, []byte(text), mode))
	}
	write("bin/geocast", "#!/bin/bash\nif [ \"$1\" = serve ]; then set -- \"$@\" --listen mqtt://127.0.0.1:$PORT; fi\nexec "+name+" \"$@\"\n", 0o755)
	write("config/mosquitto_pub", "-p "+port+"\n", 0o644)
	write("config/mosquitto_sub", "-p "+port+"\n", 0o644)
	write("fake/go", "#!/bin/bash\n", 0o755) // bin/geocast is there
	must(os.CopyFS(filepath.Join(dir, "examples"), os.DirFS("../examples")))
	return append(os.Environ(), "PORT="+port, "XDG_CONFIG_HOME="+filepath.Join(dir, "config"), "PATH="+filepath.Join(dir, "fake")+":"+os.Getenv("PATH"))
}
