// Command tracker is a GPS tracker that measures whether or not it has a network:
// what it could not send it keeps, and sends as one array when it is back. It plays
// a short trip with a tunnel in it, prints what a follower receives, and ends.
//
//	tracker -url mqtt://127.0.0.1:1883 -user van-7
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"time"

	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/mqtt"
)

// fix is one measurement. Its time is when it was measured, not when it is sent.
type fix struct {
	Lat float64 `json:"lat"`
	Lon float64 `json:"lon"`
	Tst int64   `json:"tst"`
}

// tracker is the device. A real one keeps buffered in its flash memory.
type tracker struct {
	cfg      client.Config
	conn     *client.Client // nil while offline
	buffered []fix
}

// most bounds the buffer: the oldest goes first. A day at one fix every 10 minutes
// is 144; one array may hold 1,000.
const most = 1000

// measure takes a fix and sends it, with all that is buffered, if there is a
// network. Only the acknowledgement empties the buffer: what is sent twice does no
// harm, since the broker knows a fix by its time.
func (t *tracker) measure(ctx context.Context, f fix) error {
	t.buffered = append(t.buffered, f)
	t.buffered = t.buffered[max(0, len(t.buffered)-most):]
	if t.conn == nil {
		return nil
	}
	payload, err := json.Marshal(t.buffered)
	if err != nil {
		return err
	}
	if err := t.conn.Publish(ctx, "users/"+t.cfg.User+"/location", payload, false); err != nil {
		fmt.Printf("%s: %v: %d fixes wait\n", t.cfg.User, err, len(t.buffered))
		t.tunnel()
		return nil
	}
	fmt.Printf("%s sent %d fixes in one message\n", t.cfg.User, len(t.buffered))
	t.buffered = t.buffered[:0]
	return nil
}

// online connects. Nothing is kept for a tracker between connections, so that its
// session need not last.
func (t *tracker) online(ctx context.Context) (err error) {
	t.conn, err = client.Dial(ctx, t.cfg)
	return err
}

// tunnel loses the network without a goodbye.
func (t *tracker) tunnel() {
	t.conn.Drop()
	t.conn = nil
}

func main() {
	address := flag.String("url", "mqtt://127.0.0.1:1883", "the broker")
	user := flag.String("user", "van-7", "the tracker's user name")
	password := flag.String("password", "", "its token")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	t := &tracker{cfg: client.Config{Address: *address, User: *user, Password: *password, Client: *user + "-gps", Clean: true, KeepAlive: 600}}
	if err := trip(ctx, t); err != nil {
		log.Fatal(err)
	}
}

// trip is twelve fixes, one every ten minutes; the van is in a tunnel from the
// fourth to the ninth.
func trip(ctx context.Context, t *tracker) error {
	seen := make(chan *mqtt.Message, 100)
	follower, err := client.Dial(ctx, client.Config{Address: t.cfg.Address, User: t.cfg.User, Password: t.cfg.Password,
		Client: t.cfg.User + "-follower", Clean: true, Receive: func(m *mqtt.Message) { seen <- m }})
	if err != nil {
		return err
	}
	defer follower.Close() //nolint:errcheck // the trip is over
	if err := follower.Subscribe(ctx, "users/"+t.cfg.User+"/location"); err != nil {
		return err
	}
	if err := t.online(ctx); err != nil {
		return err
	}
	start := time.Now().Add(-2 * time.Hour).Unix()
	last := fix{}
	for i := range 12 {
		switch i {
		case 3:
			t.tunnel()
		case 9:
			if err := t.online(ctx); err != nil {
				return err
			}
		}
		last = fix{48.25 + float64(i)/64, 16.37, start + int64(i)*600}
		if err := t.measure(ctx, last); err != nil {
			return err
		}
	}
	if err := t.conn.Close(); err != nil {
		return err
	}
	return follow(ctx, seen, last)
}

// follow prints positions until the last one.
func follow(ctx context.Context, seen <-chan *mqtt.Message, last fix) error {
	for got := (fix{}); got.Tst != last.Tst; {
		select {
		case m := <-seen:
			if err := json.Unmarshal(m.Payload, &got); err != nil {
				return err
			}
			fmt.Printf("the follower got %s\n", m.Payload)
		case <-ctx.Done():
			return fmt.Errorf("the last position did not arrive: %w", ctx.Err())
		}
	}
	return nil
}
