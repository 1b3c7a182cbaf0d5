package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/regular"
)

// pubCmd is mosquitto_pub.
type pubCmd struct {
	Connection  connection `embed:""`
	Topic       string     `short:"t" help:"Topic to publish to." placeholder:"TOPIC"`
	Message     *text      `short:"m" help:"The payload." placeholder:"TEXT" xor:"payload"`
	File        string     `short:"f" help:"The payload is this file." type:"existingfile" placeholder:"FILE" xor:"payload"`
	StdinLine   bool       `short:"l" help:"Each line of stdin is a payload." xor:"payload"`
	StdinFile   bool       `short:"s" help:"All of stdin is the payload." xor:"payload"`
	NullMessage bool       `short:"n" help:"The payload is empty: with -r it deletes what is retained." xor:"payload"`
	QoS         byte       `name:"qos" short:"q" help:"Quality of service." enum:"0,1,2" default:"0"`
	Retain      bool       `short:"r" help:"The broker keeps it for those who subscribe later."`
	Repeat      int        `help:"Publish this often." default:"1" placeholder:"N"`
	RepeatDelay float64    `help:"Seconds between repeats." placeholder:"SECONDS"`
}

// Help shows examples below the flags.
func (*pubCmd) Help() string {
	return `Flags are those of mosquitto_pub. It ends with 0 when the broker has taken every message over (QoS 1: its PUBACK came, QoS 2: its PUBCOMP), with 1 if it refused or the connection broke.

Examples:

    geocast pub -u bob -i bob-phone -q 1 -t users/ann/chat/7f3ac2e1 -m hello

    geocast pub -V 5 -t greetings -m hello -D publish content-type text/plain -D publish user-property lang en`
}

// Run publishes what the flags say.
func (p *pubCmd) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return p.Connection.told(p.run(ctx, os.Stdin, os.Stderr))
}

func (p *pubCmd) run(ctx context.Context, stdin io.Reader, stderr io.Writer) error {
	cfg, err := p.Connection.config()
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return usageError{err}
	}
	conn, err := p.Connection.dial(ctx, cfg, stderr)
	if err != nil {
		return err
	}
	sent := 0
	err = p.payloads(ctx, stdin, func(payload []byte) error {
		if err := p.send(ctx, conn, payload); err != nil {
			return err
		}
		sent++
		return nil
	})
	p.Connection.debugf(stderr, "%d published to %s at QoS %d", sent, p.Topic, p.QoS)
	return errors.Join(err, conn.Close())
}

// check looks at flags that need each other.
func (p *pubCmd) check() error {
	if p.Topic == "" {
		p.Topic = p.Connection.topic
	}
	switch {
	case p.Topic == "":
		return errors.New("-t TOPIC is missing")
	case !mqtt.ValidTopicName([]byte(p.Topic)):
		return errors.New("-t " + p.Topic + ": one can't publish to + and #, they are for subscriptions")
	case p.Message == nil && p.File == "" && !p.StdinLine && !p.StdinFile && !p.NullMessage:
		return errors.New("nothing to publish: give -m TEXT, -f FILE, -l, -s or -n")
	}
	return p.Connection.Properties.publish(new(mqtt.Message), time.Now())
}

// payloads calls send for each payload.
func (p *pubCmd) payloads(ctx context.Context, stdin io.Reader, send func([]byte) error) error {
	if p.StdinLine {
		lines := bufio.NewScanner(stdin)
		lines.Buffer(nil, maxPayload)
		for lines.Scan() {
			if err := send(bytes.Clone(lines.Bytes())); err != nil {
				return err
			}
		}
		return lines.Err()
	}
	var payload []byte
	var err error
	switch {
	case p.Message != nil:
		payload = []byte(*p.Message)
	case p.File != "":
		payload, err = regular.ReadUpTo(p.File, maxPayload)
	case p.StdinFile:
		payload, err = readStdin(stdin)
	}
	for i := 0; err == nil && i < p.Repeat; i++ {
		if i > 0 {
			err = pause(ctx, time.Duration(p.RepeatDelay*float64(time.Second)))
		}
		if err == nil {
			err = send(payload)
		}
	}
	return err
}

// maxPayload is what no payload can be longer than (MQTT 2.1.4).
const maxPayload = 256 << 20

// readStdin reads a payload, of which there may be no end.
func readStdin(in io.Reader) ([]byte, error) {
	payload, err := io.ReadAll(io.LimitReader(in, maxPayload+1))
	if len(payload) > maxPayload {
		return nil, errors.New("standard input has more than 256 MB, which no MQTT packet holds")
	}
	return payload, err
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pubCmd) send(ctx context.Context, conn *client.Client, payload []byte) error {
	m := &mqtt.Message{Topic: p.Topic, Payload: payload, QoS: p.QoS, Retain: p.Retain}
	if err := p.Connection.Properties.publish(m, time.Now()); err != nil {
		return err
	}
	return conn.Send(ctx, m)
}
