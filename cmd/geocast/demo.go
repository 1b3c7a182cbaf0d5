package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

type demoCmd struct {
	Listen string        `help:"Where the broker listens; default 127.0.0.1:1883, or a free port if that is taken." placeholder:"HOST:PORT"`
	Pause  time.Duration `help:"Time between two reports." default:"5ms"`
	Once   bool          `help:"End after the check, with 1 if anything is missing."`
}

// Help shows an example.
func (demoCmd) Help() string {
	return `Example: geocast demo --listen 127.0.0.1:18830 --once

The broker is a process of its own, on an empty folder, and is killed with -9 in between. Buses and phones are MQTT clients over TCP. At the end, what arrived is compared with what the same rules say of the same reports without a broker.`
}

// Run plays the demo, and lets the broker go on until a signal ends it.
func (d *demoCmd) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	address, err := d.address()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "geocast-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a folder of the system's temporary ones
	scene, err := newDemoScene(dir)
	if err != nil {
		return err
	}
	p := &demoPlay{demoCmd: d, scene: scene, broker: newDemoBroker(dir, address), phones: make(map[string]*demoPhone)}
	return p.run(ctx)
}

// address is where the broker is to listen: a port that is free now.
func (d *demoCmd) address() (string, error) {
	asked := d.Listen
	if asked == "" {
		asked = "127.0.0.1:1883"
	}
	l, err := net.Listen("tcp", asked)
	if err != nil && d.Listen == "" {
		fmt.Printf("(%v; the demo takes another port)\n\n", err)
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return "", fmt.Errorf("%w; give another address with --listen", err)
	}
	return l.Addr().String(), l.Close()
}

// demoPlay is one run of the demo. It owns the broker's process, the phones and
// the buses' connections.
type demoPlay struct {
	*demoCmd
	scene  *demoScene
	broker *demoBroker
	phones map[string]*demoPhone
	fleet  demoFleet
	wg     sync.WaitGroup // the broker's keeper and the phones
}

// run starts the broker, plays, and ends everything that it has started.
func (p *demoPlay) run(ctx context.Context) error {
	asked := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	p.wg.Go(func() {
		cancel(p.broker.keep(ctx))
	})
	err := p.play(ctx)
	if err == nil && !p.Once {
		p.goOn(ctx)
	}
	if e := context.Cause(ctx); e != nil && asked.Err() == nil {
		err = e // the broker ended by itself
	} else if asked.Err() != nil && err != nil {
		err = errors.New("interrupted before the check")
	}
	p.fleet.leave()
	for _, phone := range p.phones {
		phone.off()
	}
	cancel(nil)
	p.wg.Wait()
	return err
}

// play lets the buses report and the phones listen. In between one phone is off,
// and the broker is killed.
func (p *demoPlay) play(ctx context.Context) error {
	p.opening()
	if err := p.broker.wait(ctx); err != nil {
		return err
	}
	for _, c := range demoCast {
		p.phones[c.user] = newDemoPhone(c.user, p.broker.address)
		p.wg.Go(func() { p.phones[c.user].stay(ctx) })
	}
	for _, phone := range p.phones {
		if err := phone.wait(ctx, phone.isOn); err != nil {
			return err
		}
	}
	n := len(p.scene.fixes)
	acts := map[int]func(context.Context) error{n / 3: p.phoneOff, n * 2 / 5: p.chat, n / 2: p.kill, n * 7 / 8: p.phoneOn}
	say("%d reports of %d buses and %d passengers, made in %v, enter over MQTT at QoS 1.\nEach line below is decoded from the PUBLISH that a phone received.",
		n, p.scene.buses, len(p.scene.people)-p.scene.buses, p.scene.span())
	p.fleet.address = p.broker.address
	for i := range p.scene.fixes {
		if act := acts[i]; act != nil {
			if err := act(ctx); err != nil {
				return err
			}
		}
		if err := p.fleet.report(ctx, &p.scene.fixes[i]); err != nil {
			return err
		}
		if err := pause(ctx, p.Pause); err != nil {
			return err
		}
	}
	return p.check(ctx)
}

// opening tells who is there, and what would reach them.
func (p *demoPlay) opening() {
	fmt.Printf("geocast demo: eight buses of Liverpool's route 14 as they drove on 26 January 2026, over a real broker.\n\n")
	fmt.Println("Who listens, each on one connection, to users/{me}/inbox:")
	for _, c := range demoCast {
		fmt.Printf("  %-6s %s\n", c.user, c.what)
	}
	fmt.Printf("\nOne of the rules of examples/rules/bus-route14/rules.yaml:\n%s\n", p.scene.excerpt)
	fmt.Printf("The broker is a process of its own (everybody's token is %q):\n  %s\n\n", demoToken, p.broker.command())
}

func (p *demoPlay) phoneOff(context.Context) error {
	p.phones[demoSleeper].off()
	say("%s's phone goes off. What is meant for %s from now on waits on the broker's disk.", demoSleeper, demoSleeper)
	return nil
}

// chat has one phone write to another that is off.
func (p *demoPlay) chat(ctx context.Context) error {
	say("carol writes to %s, who is offline: %q", demoSleeper, demoMessage)
	return p.phones["carol"].say(ctx, demoSleeper, demoMessage)
}

// kill ends the broker with SIGKILL while reports go on: the next ones meet a
// broker that is just dying, dead, or just starting.
func (p *demoPlay) kill(context.Context) error {
	say("kill -9 %d: the broker dies in the middle of it. Buses and phones connect again by themselves,\nand a bus sends again what was not acknowledged.", p.broker.pid())
	return p.broker.kill()
}

// phoneOn connects the sleeper again, while the buses go on.
func (p *demoPlay) phoneOn(ctx context.Context) error {
	phone := p.phones[demoSleeper]
	say("%s's phone comes on, and gets what it missed, in order:", demoSleeper)
	p.wg.Go(func() { phone.stay(ctx) })
	return phone.wait(ctx, phone.isOn)
}

// check compares what arrived with what the rules say without a broker.
func (p *demoPlay) check(ctx context.Context) error {
	waits, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	want := p.scene.expected()
	for user, phone := range p.phones {
		phone.wait(waits, func() bool { return phone.has(want[user]) }) //nolint:errcheck // the table shows what is missing
	}
	say("%d reports were acknowledged; kills of the broker: %d. Compared with the same rules over the same reports without a broker:",
		len(p.scene.fixes), p.broker.deaths())
	fmt.Printf("  %-6s %9s %8s %8s %6s %6s\n", "", "expected", "arrived", "missing", "extra", "twice")
	wrong := 0
	for _, c := range demoCast {
		t := p.phones[c.user].tally(want[c.user])
		wrong += t.missing + t.extra + t.twice
		fmt.Printf("  %-6s %9d %8d %8d %6d %6d\n", c.user, len(want[c.user]), t.arrived, t.missing, t.extra, t.twice)
	}
	if wrong > 0 {
		return fmt.Errorf("%d messages are missing, too many, or came twice", wrong)
	}
	fmt.Println("\nNothing that was acknowledged is missing, nothing came twice, and nobody got what is not meant for them.")
	return nil
}

// goOn lets the broker run for whoever wants to try it, until a signal.
func (p *demoPlay) goOn(ctx context.Context) {
	host, port, err := net.SplitHostPort(p.broker.address)
	if err != nil {
		panic("demo: " + err.Error()) // it listened there
	}
	at := fmt.Sprintf("-h %s -p %s", host, port)
	say(`The broker goes on until Ctrl-C here. Paste into other terminals, in this order:

1. listen, as a second device of carol's (mosquitto_sub takes the same flags):
  %[1]s sub %[2]s -u carol -P %[3]s -i carol-tablet -c -q 1 -t users/carol/inbox
2. drive a bus to its terminus, once; the rule "arrived" tells carol:
  %[1]s pub %[2]s -u bus-4722 -P %[3]s -q 1 -t users/bus-4722/location/gps -m '{"lat":53.4623,"lon":-2.8958}'
3. kill the broker; it is started again, and the listener of 1 connects again (an event of the last second
   before may be shown once more, with the same seq: that is how a client knows it):
  kill -9 %[4]d
`, p.broker.program, at, demoToken, p.broker.pid())
	<-ctx.Done()
}

// say prints what happens, apart from what arrives.
func say(format string, args ...any) {
	fmt.Println("\n" + fmt.Sprintf(format, args...) + "\n")
}
