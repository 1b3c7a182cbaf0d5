package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// demoBroker is "geocast serve" as a process of its own, so that kill -9 is what it
// says. Who is killed is started again on the same folder.
type demoBroker struct {
	address, program string
	args             []string

	mu     sync.Mutex // guards the following
	cmd    *exec.Cmd  // nil before the first start
	up     bool       // it listens
	died   int
	line   []byte        // what it has logged of a line
	change chan struct{} // closed when up becomes true
}

func newDemoBroker(dir, address string) *demoBroker {
	program, err := os.Executable()
	if err != nil {
		program = os.Args[0]
	}
	return &demoBroker{address: address, program: program, change: make(chan struct{}), args: []string{"serve", "--listen", "mqtt://" + address,
		"--data", filepath.Join(dir, "data"), "--users", filepath.Join(dir, "users.yaml"), "--rules", filepath.Join(dir, "rules.yaml")}}
}

// command is what a user would type.
func (b *demoBroker) command() string { return b.program + " " + strings.Join(b.args, " ") }

// keep runs the broker, again when it was killed, until ctx ends or it ends by
// itself.
func (b *demoBroker) keep(ctx context.Context) error {
	for {
		err := b.start(ctx)
		if err == nil {
			fmt.Printf("  broker| process %d\n", b.pid())
			err = b.cmd.Wait()
		}
		listened := b.ended()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case !listened && err != nil:
			return fmt.Errorf("the broker does not start: %w", err)
		case err == nil:
			return errors.New("somebody told the broker to end")
		}
		say("The broker ended (%v). It is started again on the same folder.", err)
	}
}

// start starts the process. It gets SIGTERM when ctx ends, and is killed if it
// does not end within its own bound.
func (b *demoBroker) start(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, b.program, b.args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the demo, which ends the broker
	cmd.WaitDelay = defaultStop + time.Second
	cmd.Stderr = b
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cmd = cmd
	return cmd.Start()
}

// ended notes that the process is no more, and tells whether it had listened.
func (b *demoBroker) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.up
	if b.up {
		b.up, b.change = false, make(chan struct{})
		b.died++
	}
	return was
}

// Write takes what the broker logs, shows it, and notes when it listens.
func (b *demoBroker) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.line = append(b.line, p...)
	for {
		line, rest, ok := bytes.Cut(b.line, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		if !bytes.Contains(line, []byte(`msg="client `)) { // the phones tell themselves
			fmt.Printf("  broker| %s\n", line)
		}
		if !b.up && bytes.Contains(line, []byte("msg=listening")) {
			b.up = true
			close(b.change)
		}
		b.line = rest
	}
}

// wait waits until the broker listens.
func (b *demoBroker) wait(ctx context.Context) error {
	b.mu.Lock()
	change := b.change
	b.mu.Unlock()
	select {
	case <-change:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill is kill -9.
func (b *demoBroker) kill() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cmd.Process.Kill()
}

func (b *demoBroker) pid() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cmd.Process.Pid
}

func (b *demoBroker) deaths() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.died
}
