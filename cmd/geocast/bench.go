package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/geocast/geocast/bench"
)

type benchCmd struct {
	Run_    benchRunCmd     `cmd:"" name:"run" help:"Put one kind of load on a broker."`
	Compare benchCompareCmd `cmd:"" help:"Put every kind of load on geocast and on mosquitto in turn, and print the table."`
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
	return "Example: geocast bench run --pairs 100 --window 16 --messages 500000 --pid $(pgrep -f 'geocast serve')"
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
	Only      string `help:"Only loads whose name holds this." placeholder:"TEXT"`
	Idle      int    `help:"Idle connections; the process must be allowed as many files." default:"15000"`
}

// Help says what is compared.
func (benchCompareCmd) Help() string {
	return `Example: geocast bench compare --rounds 3

Both brokers run on loopback on this machine, one after the other for each load and round, plain TCP. geocast keeps its store on
disk in a temporary folder, with an fsync before each acknowledgement of what must last; mosquitto runs with persistence off.`
}

// load is one row of the table.
type load struct {
	name    string
	durable bool // mosquitto has nothing like it: without any disk
	run     func(t bench.Target) ([]bench.Result, error)
}

func flow(f bench.Flow) load {
	return load{f.Name, f.Lasting, func(t bench.Target) ([]bench.Result, error) {
		r, err := f.Run(t)
		return []bench.Result{r}, err
	}}
}

func (c *benchCompareCmd) loads() []load {
	n := c.Scale
	return []load{
		flow(bench.Flow{Name: "QoS 0, 100 pairs, window 16", Publishers: 100, Subscribers: 1, QoS: 0, Window: 16, Messages: 300_000 * n, Size: 64}),
		flow(bench.Flow{Name: "QoS 1, 100 pairs, window 16", Publishers: 100, Subscribers: 1, QoS: 1, Window: 16, Messages: 300_000 * n, Size: 64}),
		flow(bench.Flow{Name: "QoS 1, 100 pairs, window 1", Publishers: 100, Subscribers: 1, QoS: 1, Window: 1, Messages: 100_000 * n, Size: 64}),
		flow(bench.Flow{Name: "QoS 1, 100 pairs, open loop 5000/s", Publishers: 100, Subscribers: 1, QoS: 1, Window: 1000, Rate: 5000, Messages: 20_000 * n, Size: 64}),
		flow(bench.Flow{Name: "QoS 2, 100 pairs, window 16", Publishers: 100, Subscribers: 1, QoS: 2, Window: 16, Messages: 100_000 * n, Size: 64}),
		flow(bench.Flow{Name: "QoS 1, fan-out 1 to 1000, window 16", Publishers: 1, Subscribers: 1000, QoS: 1, Window: 16, Messages: 500 * n, Size: 64}),
		flow(bench.Flow{Name: "QoS 1, fan-out 1 to 1000, window 1", Publishers: 1, Subscribers: 1000, QoS: 1, Window: 1, Messages: 300 * n, Size: 64}),
		flow(bench.Flow{Name: "lasting online, 100 pairs, window 16", Publishers: 100, Subscribers: 1, QoS: 1, Window: 16, Messages: 200_000 * n, Size: 64, Lasting: true}),
		flow(bench.Flow{Name: "lasting online, open loop 5000/s", Publishers: 100, Subscribers: 1, QoS: 1, Window: 1000, Rate: 5000, Messages: 20_000 * n, Size: 64, Lasting: true}),
		flow(bench.Flow{Name: "lasting online, one publisher alone", Publishers: 1, Subscribers: 1, QoS: 1, Window: 1, Messages: 2000 * n, Size: 64, Lasting: true}),
		{"lasting offline, 50 publishers", true, func(t bench.Target) ([]bench.Result, error) {
			fill, drain, err := bench.Offline{Name: "lasting offline, 50 publishers", Publishers: 50, Window: 16, Messages: 200_000 * n, Size: 200}.Run(t)
			return []bench.Result{fill, drain}, err
		}},
		{"idle TCP connections", false, func(t bench.Target) ([]bench.Result, error) {
			r, err := bench.Idle{Name: fmt.Sprintf("idle TCP connections (%d)", c.Idle), Connections: c.Idle, Rest: 3 * time.Second}.Run(t)
			return []bench.Result{r}, err
		}},
	}
}

// Run runs all loads and prints the table.
func (c *benchCompareCmd) Run() error {
	brokers := []func() (*process, error){startGeocast}
	names := []string{"geocast"}
	if path, err := exec.LookPath(c.Mosquitto); err == nil {
		brokers, names = append(brokers, func() (*process, error) { return startMosquitto(path) }), append(names, "mosquitto")
	} else {
		fmt.Fprintln(os.Stderr, "no mosquitto: geocast alone (apt install mosquitto)")
	}
	fmt.Printf("geocast %s, %s, %d CPUs, median of %d\n\n", version, runtime.Version(), runtime.NumCPU(), c.Rounds)
	fmt.Println("| load | " + strings.Join(names, ": CPU a message · rate · p50/p99 | ") + ": CPU a message · rate · p50/p99 | ratio of CPU |")
	fmt.Println("|---|" + strings.Repeat("---|", len(names)+1))
	for _, l := range c.loads() {
		if !strings.Contains(l.name, c.Only) {
			continue
		}
		if err := c.row(l, brokers); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return nil
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
			rs, err := l.run(bench.Target{Address: p.address, PID: p.cmd.Process.Pid})
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
	return fmt.Sprintf("%.1f µs · %.0f/s · %.2f/%.1f ms", float64(r.PerMessage().Nanoseconds())/1000, r.Rate(),
		float64(r.P50.Microseconds())/1000, float64(r.P99.Microseconds())/1000)
}

// process is a broker that was started for a run.
type process struct {
	name, address, dir string
	cmd                *exec.Cmd
	log                *bytes.Buffer
}

func startGeocast() (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(".", "bench-")
	if err != nil {
		return nil, err
	}
	address, err := freePort()
	if err != nil {
		return nil, err
	}
	return startProcess("geocast", address, dir, exec.Command(self, "serve", "--listen", "mqtt://"+address, "--data", filepath.Join(dir, "data")))
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
	p := &process{name, address, dir, cmd, &bytes.Buffer{}}
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

func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)                                   //nolint:errcheck // Kill follows
	kill := time.AfterFunc(15*time.Second, func() { p.cmd.Process.Kill() }) //nolint:errcheck // it may have ended
	p.cmd.Wait()                                                            //nolint:errcheck // it was told to end
	kill.Stop()
	os.RemoveAll(p.dir) //nolint:errcheck // a temporary folder
}
