// Command phone is a chat app on paho.golang, with no SDK of geocast's: one
// connection, one subscription, a session that lasts, and a number on every event
// that tells whether one is missing.
//
//	phone -user ann -to bob   what you type goes to bob
//	phone                     ann and bob play it through, and it ends
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/url"
	"os"
	"os/signal"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
)

// event is what arrives in an inbox.
type event struct {
	Seq              uint64
	Type, From, Body string
}

// phone is one user's device.
type phone struct {
	server       *url.URL
	user, friend string
	password     []byte
	conn         *autopaho.ConnectionManager
	events       chan event
	last         uint64 // the number of the last event that was seen
}

// connect brings the phone online. autopaho connects again by itself; Clean Start
// 0 with a Session Expiry makes the broker go on where the phone left.
func (p *phone) connect(ctx context.Context) error {
	cfg := autopaho.ClientConfig{
		ServerUrls: []*url.URL{p.server}, KeepAlive: 300, ConnectUsername: p.user, ConnectPassword: p.password, SessionExpiryInterval: 7 * 24 * 3600,
		OnConnectionUp: func(c *autopaho.ConnectionManager, a *paho.Connack) {
			fmt.Printf("%s is online, session present: %t\n", p.user, a.SessionPresent)
			topics := []paho.SubscribeOptions{{Topic: "users/" + p.user + "/inbox", QoS: 1}, {Topic: "users/" + p.friend + "/location", QoS: 1}}
			if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: topics}); err != nil {
				fmt.Printf("%s: subscribe: %v\n", p.user, err)
			}
		},
		ClientConfig: paho.ClientConfig{ClientID: p.user + "-phone",
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){p.receive}},
	}
	var err error
	if p.conn, err = autopaho.NewConnection(ctx, cfg); err != nil {
		return err
	}
	return p.conn.AwaitConnection(ctx)
}

// receive runs before the PUBACK: an app would store the event here.
func (p *phone) receive(r paho.PublishReceived) (bool, error) {
	if r.Packet.Topic != "users/"+p.user+"/inbox" { // where the friend is, now or last
		fmt.Printf("%s sees %s: %s\n", p.user, r.Packet.Topic, r.Packet.Payload)
		return true, nil
	}
	var e event
	if err := json.Unmarshal(r.Packet.Payload, &e); err != nil {
		return true, err
	}
	if e.Seq <= p.last {
		return true, nil // a redelivery: it keeps its number
	}
	p.last = e.Seq
	if e.From != p.user { // what oneself wrote comes, too, for one's other devices
		fmt.Printf("%s got #%d %s from %s: %s\n", p.user, e.Seq, e.Type, e.From, e.Body)
		p.events <- e
	}
	return true, nil
}

// say sends a chat message. The id in the topic is the sender's own: a retry with
// the same one has no second effect.
func (p *phone) say(ctx context.Context, text string) error {
	_, err := p.conn.Publish(ctx, &paho.Publish{Topic: "users/" + p.friend + "/chat/" + rand.Text(), QoS: 1, Payload: []byte(text)})
	return err // nil: the broker has it on disk
}

// report sends where the phone is.
func (p *phone) report(ctx context.Context, lat, lon float64) error {
	body := fmt.Appendf(nil, `{"lat":%g,"lon":%g,"tst":%d,"acc":12}`, lat, lon, time.Now().Unix())
	_, err := p.conn.Publish(ctx, &paho.Publish{Topic: "users/" + p.user + "/location", QoS: 1, Payload: body})
	return err
}

func main() {
	address := flag.String("url", "mqtt://127.0.0.1:1883", "the broker")
	user := flag.String("user", "", "who you are; without it ann and bob play it through")
	password := flag.String("password", "", "your password or token")
	to := flag.String("to", "bob", "whom you write to, and whose position you see")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	u, err := url.Parse(*address)
	if err == nil && *user == "" {
		err = play(ctx, u)
	} else if err == nil {
		err = talk(ctx, &phone{server: u, user: *user, friend: *to, password: []byte(*password), events: make(chan event, 1000)})
	}
	if err != nil {
		log.Fatal(err)
	}
}

// talk sends what is typed.
func talk(ctx context.Context, p *phone) error {
	if err := p.connect(ctx); err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := p.say(ctx, lines.Text()); err != nil {
			return err
		}
	}
	return p.conn.Disconnect(context.WithoutCancel(ctx))
}
