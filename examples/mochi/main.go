// Command mochi is a mochi-mqtt server with its Badger hook and geocast's rules as
// one more hook. It lets a child leave school, prints what reaches the mother, and
// ends; with -serve it goes on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"time"

	server "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/hooks/storage/badger"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/hooks/mochi"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

const yaml = `
version: 1
zones:
  school: {circle: {lat: 48.2080, lon: 16.3740, radius: 150m}}
rules:
  school-out: {who: {tag: child}, when: {exit: school}, to: {group: parents}}
`

func main() {
	address := flag.String("listen", "127.0.0.1:0", "where to listen")
	serve := flag.Bool("serve", false, "go on after the event, until Ctrl-C")
	flag.Parse()
	if err := run(*address, *serve); err != nil {
		log.Fatal(err)
	}
}

func run(address string, serve bool) error {
	set, err := rules.Parse("rules.yaml", []byte(yaml), nil)
	if err != nil {
		return err
	}
	people := rules.NewRoster([]rules.Person{{Name: "tim", Tags: []string{"child"}}, {Name: "mum", Groups: []string{"parents"}}})
	dir, err := os.MkdirTemp("", "mochi-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a folder of the system's temporary ones
	s := server.New(&server.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	tcp := listeners.NewTCP(listeners.Config{ID: "tcp", Address: address})
	for _, err := range []error{s.AddHook(new(auth.AllowHook), nil), s.AddHook(new(badger.Hook), &badger.Options{Path: dir}),
		s.AddHook(mochi.New(s, set, people), nil), s.AddListener(tcp), s.Serve()} {
		if err != nil {
			return err
		}
	}
	defer s.Close() //nolint:errcheck // the example ends
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := leaveSchool(ctx, tcp.Address()); err != nil || !serve {
		return err
	}
	fmt.Println("mochi listens at", tcp.Address())
	<-ctx.Done()
	return nil
}

// leaveSchool is two MQTT clients: tim reports, mum gets the event.
func leaveSchool(ctx context.Context, address string) error {
	got := make(chan *mqtt.Message, 1)
	mum, err := client.Dial(ctx, client.Config{Address: address, User: "mum", Client: "phone", Receive: func(m *mqtt.Message) { got <- m }})
	if err != nil {
		return err
	}
	tim, err := client.Dial(ctx, client.Config{Address: address, User: "tim", Client: "watch"})
	if err != nil {
		return err
	}
	track := `[{"lat":48.2080,"lon":16.3740,"tst":1790000000},{"lat":48.2120,"lon":16.3740,"tst":1790000600}]`
	for _, err := range []error{mum.Subscribe(ctx, "users/mum/inbox"), tim.Publish(ctx, "users/tim/location", []byte(track), false)} {
		if err != nil {
			return err
		}
	}
	select {
	case m := <-got:
		fmt.Printf("mum got %s: %s\n", m.Topic, m.Payload)
		return nil
	case <-time.After(10 * time.Second):
		return errors.New("no event arrived")
	}
}
