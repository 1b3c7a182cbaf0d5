package chat_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/hooks/chat"
	"github.com/geocast/geocast/mqtt"
)

// TestMain lets the test binary be the broker that a test kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("GEOCAST_TEST_CHAT"); dir != "" {
		fmt.Println(serveChat(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serveChat serves until it is killed.
func serveChat(dir string) error {
	b, err := broker.New(broker.Config{Data: dir, Log: slog.New(slog.DiscardHandler), Hooks: []any{chat.New(people, false)}})
	if err != nil {
		return err
	}
	addr, err := b.Listen("mqtt://127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(addr)
	select {}
}

// child starts a broker in a process of its own.
func child(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GEOCAST_TEST_CHAT="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() }) //nolint:errcheck // it has been killed already
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(addr)
}

// event is what the test reads of an inbox event.
type event struct {
	Seq, CSeq                              uint64
	Epoch, Type, Conv, ID, CID, From, Body string
}

// device is what a person's device has received, over its connections.
type device struct {
	user, name string
	version    mqtt.Version
	got        chan event
	c          *client.Client
}

func newDevice(user, name string, v mqtt.Version) *device {
	return &device{user: user, name: name, version: v, got: make(chan event, 10_000)}
}

// connect reads the inbox on from the device's cursor.
func (d *device) connect(t *testing.T, addr string) {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Config{Address: addr, User: d.user, Client: d.name, Version: d.version, Receive: d.receive})
	if err == nil {
		err = c.Subscribe(t.Context(), "users/"+d.user+"/inbox")
	}
	if err != nil {
		t.Fatalf("%s of %s: %v", d.name, d.user, err)
	}
	d.c = c
}

func (d *device) receive(m *mqtt.Message) {
	var e event
	if err := json.Unmarshal(m.Payload, &e); err != nil {
		e.Type = err.Error()
	}
	d.got <- e
}

// distinct waits until the device has n events, and a moment for what should not
// come, and returns them without redeliveries, which are as they were.
func (d *device) distinct(t *testing.T, n int) (all []event) {
	t.Helper()
	for patience := 10 * time.Second; patience > 0; {
		if len(all) >= n {
			patience = 200 * time.Millisecond
		}
		select {
		case e := <-d.got:
			switch i := int(e.Seq) - 1; {
			case i == len(all):
				all = append(all, e)
			case i > len(all) || i < 0 || all[i] != e:
				t.Fatalf("%s of %s: got %+v after %d events", d.name, d.user, e, len(all))
			}
		case <-time.After(patience):
			patience = 0
		}
	}
	if len(all) != n {
		t.Errorf("%s of %s: %d events, want %d", d.name, d.user, len(all), n)
	}
	return all
}

// talker is a device that sends one message after the other, each until it is
// acknowledged, and some again.
type talker struct {
	user, name, topic string
	version           mqtt.Version
	acked             int
}

func (k *talker) talk(t *testing.T, addr string, messages int, acked func()) {
	c, err := client.Dial(t.Context(), client.Config{Address: addr, User: k.user, Client: k.name, Version: k.version, Clean: true})
	if err != nil {
		return // it was killed before
	}
	defer c.Drop()
	for k.acked < messages {
		topic, body := fmt.Sprintf("%s/%s-%06d", k.topic, k.name, k.acked), fmt.Appendf(nil, "%s %d", k.name, k.acked)
		if c.Publish(t.Context(), topic, body, false) != nil {
			return
		}
		k.acked++
		acked()
		if k.acked%5 == 0 && c.Publish(t.Context(), topic, body, false) != nil { // as if the acknowledgement had been lost
			return
		}
	}
}

// P1, P2, P4, P5: the broker is killed again and again while people talk, and each sends again
// what was not acknowledged. Every message is in the peer's and the sender's inbox
// once, in the order of its sender, with dense numbers, the same for a device that
// was there all the time and for one that comes at the end; a redelivery is as it was.
func TestKillNeitherLosesNorRepeatsAMessage(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	const messages, rounds = 150, 6
	talkers := []*talker{
		{user: "ann", name: "phone-a1", topic: "users/bob/chat", version: mqtt.V311},
		{user: "bob", name: "phone-b1", topic: "users/ann/chat", version: mqtt.V5},
		{user: "ann", name: "phone-a2", topic: "groups/climb/chat", version: mqtt.V5},
	}
	here := newDevice("bob", "here", mqtt.V5)
	away := newDevice("bob", "away", mqtt.V311)
	dir := t.TempDir()
	for round := range rounds {
		cmd, addr := child(t, dir)
		here.connect(t, addr)
		if round == 0 {
			away.connect(t, addr)
			away.c.Drop() // its cursor is at the beginning
		}
		var acked atomic.Int64
		stop := int64(20 + r.IntN(60))
		if round == rounds-1 {
			stop = -1
		}
		var all sync.WaitGroup
		for _, k := range talkers {
			all.Go(func() {
				k.talk(t, addr, messages, func() {
					if acked.Add(1) == stop {
						_ = cmd.Process.Kill()
					}
				})
			})
		}
		all.Wait()
		if round == rounds-1 {
			late := newDevice("ann", "late", mqtt.V5)
			late.connect(t, addr)
			away.connect(t, addr)
			for _, d := range []*device{here, away, late} {
				checkTalk(t, d, talkers, d.distinct(t, messages*len(talkers)), messages)
				d.c.Drop()
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		here.c.Drop()
	}
}

// checkTalk wants each talker's messages once and in order, and conversations that
// only go on.
func checkTalk(t *testing.T, d *device, talkers []*talker, got []event, messages int) {
	t.Helper()
	next, last := map[string]int{}, map[string]uint64{}
	for _, e := range got {
		name, number, _ := strings.Cut(e.Body, " ")
		if number != fmt.Sprint(next[name]) || e.CID != fmt.Sprintf("%s-%06d", name, next[name]) || e.Type != "msg" {
			t.Fatalf("%s of %s: got %+v, want message %d of %s", d.name, d.user, e, next[name], name)
		}
		if e.CSeq <= last[e.Conv] || e.Epoch != got[0].Epoch {
			t.Fatalf("%s of %s: got %+v after %d", d.name, d.user, e, last[e.Conv])
		}
		next[name]++
		last[e.Conv] = e.CSeq
	}
	for _, k := range talkers {
		if next[k.name] != messages {
			t.Errorf("%s of %s: %d messages of %s, want %d", d.name, d.user, next[k.name], k.name, messages)
		}
	}
}
