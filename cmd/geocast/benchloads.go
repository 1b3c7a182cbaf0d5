package main

import (
	"fmt"
	"time"

	"github.com/geocast/geocast/bench"
)

// load is one kind of load: a row of the table, or several.
type load struct {
	name string
	run  func(t bench.Target) ([]bench.Result, error)
}

func flow(f bench.Flow) load {
	if f.Size == 0 {
		f.Size = 64
	}
	return load{f.Name, func(t bench.Target) ([]bench.Result, error) {
		r, err := f.Run(t)
		return []bench.Result{r}, err
	}}
}

// loads are what DESIGN's figures are about: pairs at each QoS with a window of 16,
// of 1 and by the clock, fan-outs, sessions that last, and idle connections.
func (c *benchCompareCmd) loads() []load {
	n := c.Scale
	var all []load
	for qos, messages := range []int{300_000, 300_000, 100_000} {
		pairs := bench.Flow{Publishers: 100, Subscribers: 1, QoS: byte(qos)}
		for _, l := range []struct {
			name     string
			window   int
			rate     float64
			messages int
		}{
			{"window 16", 16, 0, messages}, {"window 1", 1, 0, 60_000}, {"open loop 5,000/s", 1000, 5000, 20_000},
		} {
			f := pairs
			f.Name = fmt.Sprintf("QoS %d, 100 pairs, %s", qos, l.name)
			f.Window, f.Rate, f.Messages = l.window, l.rate, l.messages*n
			all = append(all, flow(f))
		}
	}
	all = append(all,
		flow(bench.Flow{Name: "QoS 1, 1 to 1,000, window 16", Publishers: 1, Subscribers: 1000, QoS: 1, Window: 16, Messages: 400 * n}),
		flow(bench.Flow{Name: "QoS 1, 1 to 1,000, window 1", Publishers: 1, Subscribers: 1000, QoS: 1, Window: 1, Messages: 200 * n}),
		flow(bench.Flow{Name: "lasting and online, 100 pairs, window 16", Publishers: 100, Subscribers: 1, QoS: 1, Window: 16, Messages: 200_000 * n, Lasting: true}),
		flow(bench.Flow{Name: "lasting and online, open loop 5,000/s", Publishers: 100, Subscribers: 1, QoS: 1, Window: 1000, Rate: 5000, Messages: 20_000 * n, Lasting: true}),
		flow(bench.Flow{Name: "lasting and online, one publisher alone", Publishers: 1, Subscribers: 1, QoS: 1, Window: 1, Messages: 3000 * n, Lasting: true}),
		offline("lasting and offline, 50 publishers", 50, 200_000*n),
		load{"idle TCP connections", func(t bench.Target) ([]bench.Result, error) {
			r, err := bench.Idle{Name: fmt.Sprintf("idle TCP connections (%d)", c.Idle), Connections: c.Idle, Rest: 3 * time.Second}.Run(t)
			return []bench.Result{r}, err
		}},
	)
	return all
}

// offline fills the queues of sessions that are away, and drains them.
func offline(name string, publishers, messages int) load {
	return load{name, func(t bench.Target) ([]bench.Result, error) {
		fill, drain, err := bench.Offline{Name: name, Publishers: publishers, Window: 16, Messages: messages, Size: 200}.Run(t)
		return []bench.Result{fill, drain}, err
	}}
}
