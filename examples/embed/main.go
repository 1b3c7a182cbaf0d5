// Command embed is a Go program with the broker inside and hooks of its own: one
// says who a client is, one checks and changes what is published, one hears of
// what was committed. It lets a thermometer and a display talk over it, prints what
// happened, and ends.
package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"strconv"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// tokens knows each client by its token: an Authenticator.
type tokens map[string]string

// Authenticate runs on a worker of the broker and may ask a database.
func (t tokens) Authenticate(_ context.Context, c *hooks.Credentials) (hooks.Identity, error) {
	if want, ok := t[c.Username]; ok && subtle.ConstantTimeCompare(c.Password, []byte(want)) == 1 {
		return hooks.Identity{User: c.Username, Verified: true}, nil
	}
	return hooks.Identity{}, &hooks.Refusal{Reason: mqtt.BadUserNameOrPassword, Text: "no such token"}
}

// thermometers checks what is measured: a Gate.
type thermometers struct{}

// Filters are what it wants to see.
func (thermometers) Filters() []string { return []string{"sensors/+/celsius"} }

// Gate refuses what is no temperature, and rounds the others. A message is
// immutable: the changed one is new.
func (thermometers) Gate(_ context.Context, p *hooks.Publish, _ hooks.Reader) error {
	t, err := strconv.ParseFloat(string(p.Message.Payload), 64)
	if err != nil || t < -90 || t > 60 {
		return &hooks.Refusal{Reason: mqtt.PayloadFormatInvalid, Text: "a temperature is a number from -90 to 60"}
	}
	m := *p.Message
	m.Payload = strconv.AppendFloat(nil, t, 'f', 1, 64)
	p.Message = &m
	return nil
}

// journal writes down what was committed: an Observer. It has a goroutine of its
// own and delays nobody.
type journal chan string

// Observe hears of each event, in order.
func (j journal) Observe(e hooks.Event) {
	switch e.Kind {
	case hooks.Connected:
		j <- e.Identity.User + " came"
	case hooks.Disconnected:
		j <- e.Identity.User + " went"
	case hooks.Published:
		j <- fmt.Sprintf("%s published %s to %s", e.Identity.User, e.Message.Payload, e.Message.Topic)
	}
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	written := make(journal, 100)
	b, err := broker.New(broker.Config{ // Data: "./data" would keep what lasting sessions wait for
		Hooks: []any{tokens{"thermometer": "t0ken", "display": "pa5s"}, thermometers{}, written},
		Log:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	address, err := b.Listen("mqtt://127.0.0.1:0")
	if err == nil {
		err = measure(address.String())
	}
	if err := errors.Join(err, b.Close()); err != nil {
		return err
	}
	fmt.Println("the journal:")
	for range len(written) {
		fmt.Println(" ", <-written)
	}
	return nil
}

// measure is what clients do; yours are in other processes.
func measure(address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	got := make(chan *mqtt.Message, 10)
	dial := func(user, token string) (*client.Client, error) {
		return client.Dial(ctx, client.Config{Address: address, Version: mqtt.V5, User: user, Password: token, Client: user, Clean: true,
			Receive: func(m *mqtt.Message) { got <- m }})
	}
	if _, err := dial("thief", "guess"); err != nil {
		fmt.Println("thief:", err)
	}
	display, err := dial("display", "pa5s")
	if err != nil {
		return err
	}
	thermometer, err := dial("thermometer", "t0ken")
	if err != nil {
		return err
	}
	if err := display.Subscribe(ctx, "sensors/#"); err != nil {
		return err
	}
	for _, t := range []string{"21.4999", "hot", "-3.14"} {
		if err := thermometer.Publish(ctx, "sensors/attic/celsius", []byte(t), false); err != nil {
			fmt.Printf("%s: %v\n", t, err)
		}
	}
	for range 2 {
		select {
		case m := <-got:
			fmt.Printf("display got %s: %s\n", m.Topic, m.Payload)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.Join(thermometer.Close(), display.Close())
}
