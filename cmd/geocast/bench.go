package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/geocast/geocast/bench"
)

type benchCmd struct {
	Run_     benchRunCmd      `cmd:"" name:"run" help:"Put one kind of load on a broker."`
	Idle     benchIdleCmd     `cmd:"" help:"Hold idle connections to geocast, and print its memory for each."`
	Return   benchReturnCmd   `cmd:"" help:"Kill geocast, and see how soon all clients are back."`
	Retained benchRetainedCmd `cmd:"" help:"Retain messages on a million topics of geocast, and replay them."`
	Offline  benchOfflineCmd  `cmd:"" help:"Queue messages for sessions of geocast that are away, and drain them."`
	Memory   benchMemoryCmd   `cmd:"" help:"Make geocast hold as much as clients can, and see that it keeps to its memory."`
	Compare  benchCompareCmd  `cmd:"" help:"Put every kind of load on geocast and on mosquitto in turn, and print the table."`
}

// benchLoad is what one run sends.
type benchLoad struct {
	Pairs    int     `help:"Publishers." default:"100"`
	Fan      int     `help:"Subscribers of each publisher." default:"1"`
	QoS      int     `name:"qos" help:"QoS of the messages." default:"1" enum:"0,1,2"`
	Window   int     `help:"Unacknowledged messages of a publisher." default:"16"`
	Rate     float64 `help:"Messages a second in all, sent by the clock; 0 is as fast as the window allows." placeholder:"N"`
	Messages int     `help:"Messages in all." default:"200000"`
	Size     int     `help:"Payload in bytes." default:"64"`
	Lasting  bool    `help:"Subscribers have sessions that outlive their connections."`
}

type benchRunCmd struct {
	benchLoad
	Address string `help:"The broker: host:port of plain MQTT." default:"127.0.0.1:1883" placeholder:"HOST:PORT"`
	PID     int    `name:"pid" help:"The broker's process, for its CPU and memory." placeholder:"PID"`
	JSON    bool   `name:"json" help:"Print JSON."`
}

// Help shows an example.
func (benchRunCmd) Help() string {
	return `Example:
  geocast bench run --messages 500000 --pid $(pgrep -f 'geocast serve')`
}

// Run runs one load.
func (c *benchRunCmd) Run() error {
	f := bench.Flow{Name: "run", Publishers: c.Pairs, Subscribers: c.Fan, QoS: byte(c.QoS), Window: c.Window, Rate: c.Rate,
		Messages: c.Messages, Size: c.Size, Lasting: c.Lasting}
	r, err := f.Run(bench.Target{Address: c.Address, PID: c.PID})
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	fmt.Println(r)
	return nil
}

type benchCompareCmd struct {
	Mosquitto string `help:"Path of mosquitto; without one, geocast runs alone." default:"mosquitto" placeholder:"FILE"`
	Rounds    int    `help:"How often each is run; the table shows the median." default:"3"`
	Scale     int    `help:"Multiply the number of messages." default:"1"`
	Memory    string `help:"What geocast may use." default:"512MB"`
	Only      string `help:"Only loads whose name holds this." placeholder:"TEXT"`
	Idle      int    `help:"Idle connections; the process must be allowed as many files." default:"15000"`
}

// Help says what is compared.
func (benchCompareCmd) Help() string {
	return `Example: geocast bench compare --rounds 3

Both brokers run on loopback on this machine, one after the other for each load and round, plain TCP. geocast keeps its store on
disk in a temporary folder, with an fsync before each acknowledgement of what must last; mosquitto runs with persistence off.`
}

// Run runs all loads and prints the table.
func (c *benchCompareCmd) Run() error {
	loads := slices.DeleteFunc(c.loads(), func(l load) bool { return !strings.Contains(l.name, c.Only) })
	if len(loads) == 0 {
		return usageError{noneNamed(c.Only, c.loads(), func(l load) string { return l.name })}
	}
	brokers := []func() (*process, error){func() (*process, error) { return startGeocast("--memory", c.Memory) }}
	names := []string{"geocast"}
	if path, err := exec.LookPath(c.Mosquitto); err == nil {
		brokers, names = append(brokers, func() (*process, error) { return startMosquitto(path) }), append(names, "mosquitto")
	} else {
		fmt.Fprintln(os.Stderr, "no mosquitto: geocast alone (apt install mosquitto)")
	}
	fmt.Printf("geocast %s, %s, %d CPUs, median of %d\n\n", version, runtime.Version(), runtime.NumCPU(), c.Rounds)
	fmt.Println("A cell is CPU a message · messages/s · p50/p99 from send to receipt · p50 to the acknowledgement · how much of the time")
	fmt.Print("geocast's one ordered core was applying commands.\n\n")
	fmt.Println("| load | " + strings.Join(names, " | ") + " | ratio of CPU |")
	fmt.Println("|---|" + strings.Repeat("---|", len(names)+1))
	for _, l := range loads {
		if err := c.row(l, brokers); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return nil
}

// noneNamed says which names there are for --only.
func noneNamed[T any](only string, all []T, name func(T) string) error {
	text := fmt.Sprintf("--only %q: no name holds this; there are", only)
	for _, v := range all {
		text += "\n  " + name(v)
	}
	return errors.New(text)
}

// row runs one load on each broker, round after round, and prints the medians.
func (c *benchCompareCmd) row(l load, brokers []func() (*process, error)) error {
	all := make([][][]bench.Result, len(brokers)) // broker, round, result
	for range max(c.Rounds, 1) {
		for i, start := range brokers {
			p, err := start()
			if err != nil {
				return err
			}
			rs, err := l.run(p.target())
			p.stop()
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", p.name, err, p.log.String())
			}
			all[i] = append(all[i], rs)
		}
	}
	for k := range all[0][0] {
		cells, first := []string{all[0][0][k].Name}, 0.0
		last := 0.0
		for i := range all {
			r := median(all[i], k)
			cells = append(cells, cell(r))
			if last = value(r); i == 0 {
				first = last
			}
		}
		ratio := ""
		if len(all) > 1 && last > 0 {
			ratio = fmt.Sprintf("%.2f", first/last)
		}
		fmt.Println("| " + strings.Join(append(cells, ratio), " | ") + " |")
	}
	return nil
}

// value is what is compared: memory for idle connections, else CPU.
func value(r bench.Result) float64 {
	if r.Bytes != 0 {
		return float64(r.Bytes)
	}
	return float64(r.PerMessage())
}

// median is the round with the middle value of result k.
func median(rounds [][]bench.Result, k int) bench.Result {
	best := rounds[0][k]
	for _, a := range rounds {
		below, above := 0, 0
		for _, b := range rounds {
			if value(b[k]) < value(a[k]) {
				below++
			} else if value(b[k]) > value(a[k]) {
				above++
			}
		}
		if below <= len(rounds)/2 && above <= len(rounds)/2 {
			best = a[k]
		}
	}
	return best
}

func cell(r bench.Result) string {
	if r.Bytes != 0 {
		return fmt.Sprintf("%.1f KB each · %.0f connects/s · RSS %d MB", float64(r.Bytes)/1024, r.Rate(), r.RSS>>20)
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	c := fmt.Sprintf("%.1f µs · %.0f/s · %.2f/%.1f ms", float64(r.PerMessage().Nanoseconds())/1000, r.Rate(), ms(r.P50), ms(r.P99))
	if r.AckP50 > 0 {
		c += fmt.Sprintf(" · %.2f ms", ms(r.AckP50))
	}
	if r.Busy > 0 && r.Took > 0 {
		c += fmt.Sprintf(" · core %.0f %%", 100*r.Busy.Seconds()/r.Took.Seconds())
	}
	return c
}
