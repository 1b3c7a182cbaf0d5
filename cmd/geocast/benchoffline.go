package main

import (
	"fmt"
	"time"

	"github.com/geocast/geocast/bench"
)

type benchOfflineCmd struct {
	Memory     string `help:"What geocast may use." default:"256MB"`
	Messages   int    `help:"Messages in all." default:"1000000"`
	Publishers int    `help:"Publishers, each with a session that is away." default:"50"`
	Window     int    `help:"Unacknowledged messages of a publisher." default:"16"`
	Size       int    `help:"Payload in bytes." default:"200"`
}

// Help shows an example.
func (benchOfflineCmd) Help() string {
	return `Example: geocast bench offline --memory 512MB

Each publisher's messages at QoS 1 wait for one session that is away; then all sessions come back and acknowledge them. "Held" is
RssAnon and RssShmem. Deleting is over when geocast has used no CPU for two seconds.`
}

// Run fills, drains and waits until all is deleted.
func (c *benchOfflineCmd) Run() error {
	p, err := startGeocast("--memory", c.Memory)
	if err != nil {
		return err
	}
	defer p.stop()
	t := p.target()
	load := bench.Offline{Name: "offline", Publishers: c.Publishers, Window: c.Window, Messages: c.Messages, Size: c.Size}
	most := t.Watch()
	began := time.Now()
	fill, drain, err := load.Run(t)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, p.log.String())
	}
	through := time.Since(began)
	rest := t.Settle(2*time.Second, time.Minute)
	fmt.Printf("memory: %s, %d messages of %d B, %d publishers, window %d\n", c.Memory, fill.Messages, c.Size, c.Publishers, c.Window)
	fmt.Printf("fill: %s\n", cell(fill))
	fmt.Printf("drain: %s\n", cell(drain))
	all := fill.CPU + drain.CPU + rest.CPU
	fmt.Printf("deleting went on for %.1f s, CPU %.1f µs each; in all %.1f s, CPU %.1f µs each\n", rest.Took.Seconds(), micros(rest.CPU)/float64(fill.Messages),
		(through + rest.Took).Seconds(), micros(all)/float64(fill.Messages))
	fmt.Printf("at most %d MB held, then %d MB\n", most()>>20, bench.Memory(t.PID).Held()>>20)
	return nil
}
