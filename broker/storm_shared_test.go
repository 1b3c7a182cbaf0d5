package broker_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// crew is what the members of a shared subscription got together.
type crew struct {
	mu   sync.Mutex
	got  map[string]map[int]int // publisher, message → how often
	left int                    // messages that nobody has
}

func (c *crew) take(who string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.got[who] == nil {
		c.got[who] = make(map[int]int)
	}
	if c.got[who][n]++; c.got[who][n] == 1 {
		c.left--
	}
}

func (c *crew) done() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left == 0
}

// sharedStorm: members of one shared subscription come and go; every message must
// reach one of them, and at QoS 2 exactly once.
func sharedStorm(t *testing.T, addr net.Addr, n int, beside func(rnd *rand.Rand, done <-chan struct{})) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	all := &crew{got: make(map[string]map[int]int), left: 2 * n}
	var pubs []*publisher
	for i := range 2 {
		pubs = append(pubs, &publisher{qos: byte(1 + i), n: n,
			peer: peer{id: fmt.Sprint("pub", i), addr: addr, v: mqtt.V5, rnd: rand.New(rand.NewPCG(seed, uint64(i)))}})
	}
	var subs []*subscriber
	for i := range 3 {
		s := &subscriber{qos: 2, crew: all, peer: peer{id: fmt.Sprint("s", i), addr: addr, v: mqtt.V5, rnd: rand.New(rand.NewPCG(seed, uint64(10+i)))}}
		c := dial(t, addr, s.v)
		c.connect(s.id, lasting)
		c.subscribe("$share/g/t/#", 2)
		c.nc.Close()
		subs = append(subs, s)
	}
	done, besideDone := make(chan struct{}), make(chan struct{})
	go func() { beside(rand.New(rand.NewPCG(seed, 0)), done); close(besideDone) }()
	var wg sync.WaitGroup
	deadline := time.Now().Add(30 * time.Second)
	run := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	for _, p := range pubs {
		run(p.run)
	}
	for _, s := range subs {
		run(func() error { return s.run(deadline) })
	}
	wg.Wait()
	close(done)
	<-besideDone
	for who, qos := range map[string]int{"pub0": 1, "pub1": 2} {
		lost, twice := 0, 0
		for i := 1; i <= n; i++ {
			switch k := all.got[who][i]; {
			case k == 0:
				lost++
			case k > 1:
				twice++
			}
		}
		if lost > 0 || twice > 0 && qos == 2 {
			t.Errorf("of %d messages at QoS %d %d were lost, %d came twice", n, qos, lost, twice)
		}
	}
}

func TestSharedStorm(t *testing.T) {
	_, addr := start(t, broker.Config{Data: t.TempDir()})
	sharedStorm(t, addr, 3000, func(*rand.Rand, <-chan struct{}) {})
}

func TestSharedStormOverKills(t *testing.T) {
	dir := t.TempDir()
	cmd, addr := child(t, dir)
	sharedStorm(t, addr, 3000, killing(t, &cmd, dir, addr))
}
