package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/geocast/geocast/bench"
)

// process is a broker that was started for a run.
type process struct {
	name, address, dir string
	admin              string // geocast's, for its metrics
	cmd                *exec.Cmd
	log                *bytes.Buffer
}

func startGeocast(args ...string) (*process, error) {
	admin, err := freePort()
	if err != nil {
		return nil, err
	}
	p, err := startSecured("mqtt", append(args, "--admin", admin)...)
	if err == nil {
		p.admin = admin
	}
	return p, err
}

func startMosquitto(path string) (*process, error) {
	dir, err := os.MkdirTemp(".", "bench-")
	if err != nil {
		return nil, err
	}
	address, err := freePort()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	conf := "listener " + port + " 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\nmax_inflight_messages 1000\nlog_type error\n"
	file := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	return startProcess("mosquitto", address, dir, exec.Command(path, "-c", file))
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func startProcess(name, address, dir string, cmd *exec.Cmd) (*process, error) {
	p := &process{name: name, address: address, dir: dir, cmd: cmd, log: &bytes.Buffer{}}
	cmd.Stdout, cmd.Stderr = io.Discard, p.log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if nc, err := net.Dial("tcp", address); err == nil {
			return p, nc.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.stop()
	return nil, errors.New(name + " does not listen: " + p.log.String())
}

// target is the process as the loads see it.
func (p *process) target() bench.Target {
	t := bench.Target{Address: p.address, PID: p.cmd.Process.Pid}
	if p.admin != "" {
		t.Busy = p.busy
	}
	return t
}

// busy reads how long geocast's core has been applying commands, 0 if that
// can't be read.
func (p *process) busy() time.Duration {
	r, err := http.Get("http://" + p.admin + "/metrics")
	if err != nil {
		return 0
	}
	defer r.Body.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "\ngeocast_core_busy_seconds_total ")
	value, _, _ := strings.Cut(rest, "\n")
	seconds, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}

func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)                                   //nolint:errcheck // Kill follows
	kill := time.AfterFunc(15*time.Second, func() { p.cmd.Process.Kill() }) //nolint:errcheck // it may have ended
	p.cmd.Wait()                                                            //nolint:errcheck // it was told to end
	kill.Stop()
	if p.dir == "" {
		return
	}
	os.RemoveAll(p.dir) //nolint:errcheck // a temporary folder
}

// ready waits until clients are served.
func (p *process) ready() error {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		r, err := http.Get("http://" + p.admin + "/readyz")
		if err != nil {
			continue
		}
		r.Body.Close() //nolint:errcheck // only the status counts
		if r.StatusCode == http.StatusOK {
			return nil
		}
	}
	return errors.New("it does not become ready")
}
