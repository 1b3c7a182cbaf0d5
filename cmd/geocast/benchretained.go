package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/geocast/geocast/bench"
	"github.com/geocast/geocast/mqtt"
)

type benchRetainedCmd struct {
	Topics      int           `help:"Topics that each hold a message." default:"1000000"`
	Size        int           `help:"Payload in bytes." default:"100"`
	Memory      string        `help:"What geocast may use." default:"256MB"`
	Subscribers int           `help:"Subscribers at once, beside a publisher and a subscriber that send ten messages a second." default:"100"`
	AtMost      time.Duration `help:"How long they are read from." default:"30s"`
}

// Help shows an example.
func (benchRetainedCmd) Help() string {
	return `Example: geocast bench retained --topics 100000 --memory 192MB

Every topic is given its message; one client subscribes to all of them, then one more, then many at once; geocast is ended and
started again. "held" is RssAnon and RssShmem: memory that nobody but the process has.`
}

// Run fills, replays and restarts.
func (c *benchRetainedCmd) Run() error {
	dir, err := os.MkdirTemp(".", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	b := retainingBroker{dir: dir, memory: c.Memory}
	if err := b.start(); err != nil {
		return err
	}
	defer func() { b.stop() }()
	fmt.Printf("memory: %s\n", c.Memory)
	r := bench.Retained{Topics: c.Topics, Size: c.Size, Publishers: 10, Window: 64}
	for _, step := range []func(bench.Retained) error{
		b.fill,
		func(r bench.Retained) error { return b.replay(r, mqtt.V5, 1, 10*time.Minute) },
		func(r bench.Retained) error { return b.replay(r, mqtt.V311, 1, 10*time.Minute) },
		func(r bench.Retained) error { return b.crowd(r, c.Subscribers, c.AtMost) },
		b.restart,
	} {
		if err := step(r); err != nil {
			return fmt.Errorf("%w\n%s", err, b.log.String())
		}
	}
	return nil
}

// retainingBroker is geocast under these loads.
type retainingBroker struct {
	*process
	dir, memory string
}

func (b *retainingBroker) start() error {
	address, err := freePort()
	if err != nil {
		return err
	}
	admin, err := freePort()
	if err != nil {
		return err
	}
	b.process, err = startSelf("", address, "mqtt", filepath.Join(b.dir, "data"), b.dir, "--memory", b.memory, "--admin", admin)
	if err == nil {
		b.admin = admin
	}
	return err
}

// held says what the process has in memory.
func (b *retainingBroker) held() string {
	u := bench.Memory(b.cmd.Process.Pid)
	return fmt.Sprintf("held %d MB, RSS %d MB", u.Held()>>20, u.RSS>>20)
}

func (b *retainingBroker) fill(r bench.Retained) error {
	res, peak, err := r.Fill(b.target())
	if err != nil {
		return err
	}
	fmt.Printf("%s: %.1f s, %.0f/s, CPU %.1f µs each; at most %d MB held, then %s\n", res.Name,
		res.Took.Seconds(), res.Rate(), micros(res.PerMessage()), peak>>20, b.held())
	time.Sleep(25 * time.Second)
	fmt.Printf("25 s later: %s\n", b.held())
	return nil
}

func (b *retainingBroker) replay(r bench.Retained, v mqtt.Version, subscribers int, atMost time.Duration) error {
	p, err := r.Replay(b.target(), v, subscribers, atMost)
	if err != nil {
		return err
	}
	all := "all"
	if !p.All {
		all = fmt.Sprintf("%d", p.Messages)
	}
	fmt.Printf("%s: SUBACK after %s, the first message after %s, %s after %.1f s, %.0f/s, CPU %.1f µs each; at most %d MB held\n", p.Name,
		p.Suback.Round(10*time.Microsecond), p.First.Round(10*time.Microsecond), all, p.Took.Seconds(), p.Rate(), micros(p.PerMessage()), p.Peak>>20)
	return nil
}

// crowd is many replays at once beside a quiet pair.
func (b *retainingBroker) crowd(r bench.Retained, subscribers int, atMost time.Duration) error {
	if subscribers == 0 {
		return nil
	}
	const rate = 10
	pair := bench.Flow{Name: "quiet pair", Publishers: 1, Subscribers: 1, QoS: 1, Window: 1, Rate: rate, Messages: max(int(rate*atMost.Seconds()), 1), Size: 64}
	alone := pair
	alone.Messages = min(alone.Messages, 100)
	idle, err := alone.Run(b.target())
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- b.replay(r, mqtt.V5, subscribers, atMost) }()
	res, err := pair.Run(b.target())
	if err := errors.Join(err, <-done); err != nil {
		return err
	}
	fmt.Printf("a quiet pair beside it: p50 %.1f ms, p99 %.1f ms (alone: %.1f, %.1f)\n", millis(res.P50), millis(res.P99), millis(idle.P50), millis(idle.P99))
	return nil
}

// restart ends the broker and starts it again on the same folder.
func (b *retainingBroker) restart(r bench.Retained) error {
	b.stop()
	began := time.Now()
	if err := b.start(); err != nil {
		return err
	}
	if err := b.ready(); err != nil {
		return err
	}
	ready := time.Since(began)
	one := r
	one.Topics = 1
	p, err := one.Replay(b.target(), mqtt.V5, 1, time.Minute)
	if err != nil {
		return err
	}
	fmt.Printf("a start with them: ready after %.1f s, the first message %.1f ms after a SUBSCRIBE; %s\n", ready.Seconds(), millis(p.First), b.held())
	time.Sleep(25 * time.Second)
	fmt.Printf("25 s later: %s\n", b.held())
	return nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

func millis(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
