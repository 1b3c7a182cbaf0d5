package broker_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

func authenticatorsAreAskedInOrder(t *testing.T) {
	var asked list
	knows := func(by, who string) authenticator {
		return func(_ context.Context, c *hooks.Credentials) (hooks.Identity, error) {
			asked.add(by)
			if c.Username != who {
				return hooks.Identity{}, fmt.Errorf("%s: %w", by, hooks.ErrNotMine)
			}
			return hooks.Identity{User: c.Username + "!", Client: "forged"}, nil
		}
	}
	var is list
	who := authorizer(func(r *hooks.Request) error {
		is.add(fmt.Sprint(r.Identity.User, " ", r.Identity.Client, " ", r.Identity.Verified))
		return nil
	})
	_, addr := start(t, broker.Config{Hooks: []any{knows("first", "ann"), who, knows("second", "bob")}})
	join(t, addr, "c", user("ann")).say("t", "x")
	wantList(t, asked.take(), "first")
	join(t, addr, "c", user("bob")).say("t", "x")
	wantList(t, asked.take(), "first", "second")
	wantList(t, is.take(), "ann! c true", "bob! c true")
	if a := dial(t, addr, mqtt.V5).connect("c", user("eve")); a.Reason != mqtt.BadUserNameOrPassword {
		t.Errorf("eve got %v", a.Reason)
	}
}

func authenticatorsRefuse(t *testing.T) {
	for _, row := range []struct {
		name string
		fail func() error
		want mqtt.Reason
		text string
		logs bool
	}{
		{"a refusal", func() error { return &hooks.Refusal{Reason: mqtt.Banned, Text: "go away"} }, mqtt.Banned, "go away", false},
		{"an error", func() error { return errors.New("the sky fell") }, mqtt.UnspecifiedError, "", true},
		{"a panic", func() error { panic("the sky fell") }, mqtt.UnspecifiedError, "", true},
	} {
		var log logText
		_, addr := start(t, broker.Config{Log: log.logger(), Hooks: []any{authenticator(func(context.Context, *hooks.Credentials) (hooks.Identity, error) {
			return hooks.Identity{}, row.fail()
		})}})
		if a := dial(t, addr, mqtt.V5).connect("c"); a.Reason != row.want || a.ReasonString != row.text {
			t.Errorf("%s: got %v %q", row.name, a.Reason, a.ReasonString)
		}
		if log.have("the sky fell") != row.logs {
			t.Errorf("%s: logged %v", row.name, !row.logs)
		}
	}
}

func authenticationEnds(t *testing.T) {
	for _, row := range []struct {
		name  string
		limit time.Duration
		close bool
	}{{"after the limit", 20 * time.Millisecond, false}, {"when the broker closes", time.Hour, true}} {
		began, ended := make(chan bool), make(chan error, 1)
		b, addr := start(t, broker.Config{Limits: broker.Limits{Connect: row.limit}, Hooks: []any{authenticator(func(ctx context.Context, _ *hooks.Credentials) (hooks.Identity, error) {
			began <- true
			<-ctx.Done()
			ended <- ctx.Err()
			return hooks.Identity{}, ctx.Err()
		})}})
		dial(t, addr, mqtt.V5).send(mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, ClientID: "c"}))
		<-began
		if row.close {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
		select {
		case <-ended: //nolint:errcheck // that it ended is enough
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: ctx did not end", row.name)
		}
	}
}

// denied is refused in whatever way a client comes to it.
const denied = "a/denied"

func anyNoIsFinal(t *testing.T) {
	no := authorizer(func(r *hooks.Request) error {
		if r.Identity.User != "root" && (r.Action == hooks.Write && r.Topic == denied || r.Action == hooks.Read && mqtt.Match(r.Topic, denied)) {
			return &hooks.Refusal{Text: "no"}
		}
		return nil
	})
	yes := authorizer(func(*hooks.Request) error { return nil })
	_, addr := start(t, broker.Config{Hooks: []any{yes, no, yes}})
	root := join(t, addr, "root", user("root"))
	root.subscribe("#", 2)
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		c := dial(t, addr, v)
		c.connect("c", user("ann"))
		for qos := range byte(3) {
			for _, f := range []string{denied, "a/+", "#", "$share/g/" + denied} {
				s := dial(t, addr, v)
				s.connect("s", user("ann"))
				s.send(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, Filters: []mqtt.Subscription{{Filter: f, QoS: qos}}}, v))
				_, body, err := s.next(5 * time.Second)
				if v == mqtt.V31 && err != nil {
					continue // which has no refusal but to close
				}
				if a, err := mqtt.DecodeSuback(body, v); err != nil || a.Reasons[0] < 0x80 {
					t.Errorf("level %d: SUBSCRIBE %s QoS %d: %v, %v", v, f, qos, a, err)
				}
			}
			c.refusedAt(qos, func(*mqtt.Publish) {})
			c.refusedAt(qos, retain)
			if v == mqtt.V5 {
				c.refusedAt(qos, func(p *mqtt.Publish) { p.Props.Alias = 3 })
				c.refusedAt(qos, func(p *mqtt.Publish) { p.Props.Alias, p.Topic = 3, nil })
			}
		}
		w := dial(t, addr, v)
		if a := w.connect("w", user("ann"), func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: denied, Payload: []byte("x")} }); a.Reason < 0x80 {
			t.Errorf("level %d: the will was taken", v)
		}
		c.say("allowed", "x")
		root.want("allowed", "x") // and nothing before it
	}
}

// refusedAt publishes on the denied topic and wants a refusal, as the level has it.
func (c *client) refusedAt(qos byte, change func(*mqtt.Publish)) {
	c.t.Helper()
	c.publish(denied, "x", qos, 7, change)
	switch qos {
	case 0:
		return
	case 1:
		if a := c.wantAck(mqtt.PUBACK, 7); c.v == mqtt.V5 && a.Reason != mqtt.NotAuthorized {
			c.t.Errorf("QoS 1: got %v", a.Reason)
		}
		return
	}
	if a := c.wantAck(mqtt.PUBREC, 7); c.v == mqtt.V5 && a.Reason != mqtt.NotAuthorized {
		c.t.Errorf("QoS 2: got %v", a.Reason)
	}
	if c.v != mqtt.V5 {
		c.ack(mqtt.PUBREL, 7)
		c.wantAck(mqtt.PUBCOMP, 7)
	}
}

func brokenAuthorizersSayNo(t *testing.T) {
	for name, fail := range map[string]func() error{"panic": func() error { panic("the sky fell") }, "error": func() error { return errors.New("the sky fell") }} {
		for _, action := range []hooks.Action{hooks.Read, hooks.Write} {
			var log logText
			_, addr := start(t, broker.Config{Log: log.logger(), Hooks: []any{authorizer(func(r *hooks.Request) error {
				if r.Action == action {
					return fail()
				}
				return nil
			})}})
			c := join(t, addr, "c")
			c.send(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, Filters: []mqtt.Subscription{{Filter: "x"}}}, c.v))
			_, body := c.read()
			a, err := mqtt.DecodeSuback(body, c.v)
			if err != nil || a.Reasons[0] >= 0x80 != (action == hooks.Read) {
				t.Errorf("%s: SUBACK %+v, %v", name, a, err)
			}
			if r := c.say("t", "x"); r >= 0x80 != (action == hooks.Write) {
				t.Errorf("%s: PUBACK %v", name, r)
			}
			if !log.have("the sky fell") {
				t.Errorf("%s: not logged", name)
			}
		}
	}
}

func willsAreAskedAboutTwice(t *testing.T) {
	var allowed atomic.Int32 // how often a will is
	asked := make(chan bool, 9)
	log := &logText{}
	b, addr := start(t, broker.Config{Log: log.logger(), Hooks: []any{authorizer(func(r *hooks.Request) error {
		if !r.Will {
			return nil
		}
		asked <- true
		if allowed.Add(-1) < 0 {
			return &hooks.Refusal{}
		}
		return nil
	})}})
	sub := join(t, addr, "sub")
	sub.subscribe("will/#", 1)
	for i, times := range []int32{0, 1, 2} {
		allowed.Store(times)
		c := dial(t, addr, mqtt.V5)
		a := c.connect("c", func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: fmt.Sprint("will/", i), Payload: []byte("x")} })
		if a.Reason >= 0x80 != (times == 0) {
			t.Errorf("allowed %d times: CONNACK %v", times, a.Reason)
		}
		<-asked
		if c.nc.Close(); times > 0 {
			<-asked // when it is sent
		}
	}
	sub.want("will/2", "x")
	if n := b.Stats().Refused; n != 1 || log.count(`msg="a will was refused"`) != 1 {
		t.Errorf("%d refused wills are counted and %d in the log, want 1", n, log.count("a will was refused"))
	}
}

func subscriptionsAreAskedAboutOnce(t *testing.T) {
	var reads atomic.Int32
	_, addr := start(t, broker.Config{Hooks: []any{authorizer(func(r *hooks.Request) error {
		if r.Action == hooks.Read && reads.Add(1) > 1 {
			return &hooks.Refusal{}
		}
		return nil
	})}})
	c := join(t, addr, "c", lasting)
	c.subscribe("x", 1)
	c = join(t, addr, "c", lasting)
	join(t, addr, "d").say("x", "on")
	if n := reads.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	c.want("x", "on")
}

func slowAuthorizersHoldUpTheirPublisher(t *testing.T) {
	let, asked := make(chan struct{}), make(chan struct{}, 1)
	slow := authorizer(func(r *hooks.Request) error {
		if r.Topic == "slow" {
			asked <- struct{}{}
			<-let
		}
		return nil
	})
	letIn := sync.OnceFunc(func() { close(let) })
	_, addr := start(t, broker.Config{Hooks: []any{slow, prompt{func(*hooks.Request) error { return nil }}}})
	t.Cleanup(letIn) // before the broker closes
	c := join(t, addr, "c")
	c.publish("slow", "x", 1, 1)
	<-asked
	for i := range 2 * runtime.GOMAXPROCS(0) { // some of them are read by whoever reads c
		join(t, addr, fmt.Sprint(i)).say("t", "x")
	}
	letIn()
	c.wantAck(mqtt.PUBACK, 1)
}

func promptAuthorizersNeedNoWorker(t *testing.T) {
	let, in := make(chan struct{}), make(chan struct{})
	g := &gate{filters: "held", look: func(context.Context, *hooks.Publish, hooks.Reader) error { in <- struct{}{}; <-let; return nil }}
	p := prompt{func(r *hooks.Request) error {
		if r.Topic == denied {
			return &hooks.Refusal{Text: "no"}
		}
		return nil
	}}
	letIn := sync.OnceFunc(func() { close(let) })
	_, addr := start(t, broker.Config{Hooks: []any{g, p}})
	t.Cleanup(letIn)
	c := join(t, addr, "c")
	all := make([]*client, 4*runtime.GOMAXPROCS(0))
	for i := range all {
		all[i] = join(t, addr, fmt.Sprint(i))
		all[i].publish("held", "x", 1, 1)
		<-in
	}
	c.say("t", "x") // though all workers are held
	c.refusedAt(1, func(*mqtt.Publish) {})
	letIn()
	for _, c := range all {
		c.wantAck(mqtt.PUBACK, 1)
	}
}
