package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/client"
	examples "github.com/geocast/geocast/examples/rules"
	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/hooks/georules"
	"github.com/geocast/geocast/hooks/users"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

type demoCmd struct {
	Listen string        `help:"Where the broker listens." default:"127.0.0.1:1883" placeholder:"HOST:PORT"`
	Pause  time.Duration `help:"Time between two reports." default:"5ms"`
	Once   bool          `help:"End after the tracks."`
}

// Help shows an example.
func (demoCmd) Help() string { return "Example: geocast demo --listen 127.0.0.1:18830 --once" }

// Run starts a broker on a new folder and lets real buses report to it.
func (d *demoCmd) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	set, people, fixes, err := demoFiles()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "geocast-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a folder of the system's temporary ones
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	b, err := broker.New(broker.Config{Data: dir, Hooks: []any{georules.New(set, people)}, Log: log})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	addr, err := b.Listen("mqtt://" + d.Listen)
	if err != nil {
		cancel()
		return errors.Join(err, b.Close())
	}
	go func() { served <- b.Serve(ctx) }()
	err = d.play(ctx, addr, people, fixes)
	if err == nil && !d.Once {
		fmt.Printf("\nThe broker goes on at %v until Ctrl-C. Try, in another terminal:\n", addr)
		host, port, _ := net.SplitHostPort(addr.String())
		fmt.Printf("  mosquitto_sub -h %s -p %s -u carol -i phone -q 1 -t users/carol/inbox\n", host, port)
		fmt.Printf("  mosquitto_sub -h %s -p %s -t 'users/+/location'\n", host, port)
		fmt.Printf("  mosquitto_pub -h %s -p %s -u bus-4716 -q 1 -t users/bus-4716/location -m '{\"lat\":53.4623,\"lon\":-2.8958}'\n", host, port)
		<-ctx.Done()
	}
	cancel()
	if e := <-served; err == nil {
		err = e
	}
	return err
}

// demoFiles reads the rules, users and tracks that are built in. The tracks are
// moved in time so that the last fix is now.
func demoFiles() (*rules.Set, rules.People, []geo.Fix, error) {
	dir, err := fs.Sub(examples.Files, "bus-route14")
	if err != nil {
		return nil, nil, nil, err
	}
	var text [3][]byte
	for i, name := range [3]string{"rules.yaml", "users.yaml", "track.csv"} {
		if text[i], err = fs.ReadFile(dir, name); err != nil {
			return nil, nil, nil, err
		}
	}
	set, err := rules.Parse("rules.yaml", text[0], dir)
	if err != nil {
		return nil, nil, nil, err
	}
	file, err := users.Parse("users.yaml", text[1])
	if err != nil {
		return nil, nil, nil, err
	}
	fixes, err := rules.ReadTrack(bytes.NewReader(text[2]))
	if err != nil || len(fixes) == 0 {
		return nil, nil, nil, err
	}
	last := fixes[0].Tst
	for _, f := range fixes {
		last = max(last, f.Tst)
	}
	for i := range fixes {
		fixes[i].Tst += time.Now().UnixMilli() - last
	}
	return set, file.People(), fixes, nil
}

// play connects the listeners and the buses, each over TCP, and lets the buses
// report in turn.
func (d *demoCmd) play(ctx context.Context, addr net.Addr, people rules.People, fixes []geo.Fix) error {
	var got atomic.Uint64
	show := func(who string) func(*mqtt.Message) {
		return func(m *mqtt.Message) {
			got.Add(1)
			fmt.Printf("%-8s got %s: %s\n", who, m.Topic, m.Payload)
		}
	}
	var all []*client.Client
	defer func() {
		for _, c := range all {
			c.Close() //nolint:errcheck // the demo ends
		}
	}()
	dial := func(user string, receive func(*mqtt.Message)) (*client.Client, error) {
		c, err := client.Dial(ctx, client.Config{Address: addr.String(), Client: user + "-phone", User: user, Clean: true, Receive: receive})
		if err == nil {
			all = append(all, c)
		}
		return c, err
	}
	for _, u := range append(people.Group("control"), "nobody") {
		c, err := dial(u, show(u))
		if err == nil {
			err = c.Subscribe(ctx, "users/"+u+"/inbox")
		}
		if err != nil {
			return err
		}
	}
	buses := make(map[string]*client.Client)
	fmt.Printf("%d reports of real buses enter over MQTT; what a rule sends arrives below (nobody gets nothing).\n\n", len(fixes))
	for i := range fixes {
		f := &fixes[i]
		c, err := buses[f.Who], error(nil)
		if c == nil {
			if c, err = dial(f.Who, nil); err != nil {
				return err
			}
			buses[f.Who] = c
		}
		topic := strings.TrimSuffix("users/"+f.Who+"/location/"+f.Tracker, "/")
		report := fmt.Appendf(nil, `{"lat":%g,"lon":%g,"tst":%.3f}`, f.Lat, f.Lon, float64(f.Tst)/1000)
		if err := c.Publish(ctx, topic, report, false); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(d.Pause):
		}
	}
	time.Sleep(200 * time.Millisecond) // what was sent arrives
	fmt.Printf("\n%d reports acknowledged, %d events arrived at %d people.\n", len(fixes), got.Load(), len(people.Group("control")))
	return nil
}
