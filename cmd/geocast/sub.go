package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/mqtt"
)

// subCmd is mosquitto_sub.
type subCmd struct {
	Connection   connection `embed:""`
	Topics       []string   `name:"topic" short:"t" help:"Topic filter; may be repeated." placeholder:"FILTER" sep:"none"`
	Unsubscribe  []string   `short:"U" help:"Unsubscribe from this filter first." placeholder:"FILTER" sep:"none"`
	Without      []string   `name:"filter-out" short:"T" help:"Do not print what matches this filter." placeholder:"FILTER" sep:"none"`
	QoS          byte       `name:"qos" short:"q" help:"Highest quality of service." enum:"0,1,2" default:"0"`
	Count        int        `short:"C" help:"End after this many messages." placeholder:"N"`
	Timeout      float64    `short:"W" help:"End after this many seconds." placeholder:"SECONDS"`
	Subscribed   bool       `name:"exit-on-subscribe" short:"E" help:"End as soon as the broker has confirmed the subscriptions."`
	Verbose      bool       `short:"v" help:"Print the topic before the payload."`
	Format       string     `short:"F" help:"Print this: %t topic, %p payload, %l its length, %x in hex, %q QoS, %r retain, %I time, %U Unix time, %j JSON, %J JSON with the payload's own, %C %R %D %E %F %P properties, and \\n \\t." placeholder:"FORMAT"`
	NoNewline    bool       `name:"no-eol" short:"N" help:"No newline after a payload."`
	NoRetained   bool       `short:"R" name:"no-retained" help:"Do not print retained messages."`
	RetainedOnly bool       `help:"Print retained messages only; end at the first that is not."`
	AsPublished  bool       `name:"retain-as-published" help:"Keep the publisher's retain flag (-V 5)."`
}

// Help shows examples below the flags.
func (*subCmd) Help() string {
	return `Flags are those of mosquitto_sub. It connects again when the connection breaks, and ends with 0 when it has done what was asked (-C, -E, -W, or a signal), with 1 if the broker refused, or -W passed before -C messages came.

Examples:

    geocast sub -u ann -i ann-phone -c -q 1 -t users/ann/inbox

    geocast sub -L mqtt://ann:secret@localhost/users/ann/inbox -V 5 -C 1 -W 5 -F '%I %t %p'`
}

// Run prints what arrives.
func (s *subCmd) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return s.Connection.told(s.run(ctx, os.Stdout, os.Stderr))
}

// errDone ends a subscriber that has done what was asked.
var errDone = errors.New("done")

func (s *subCmd) run(ctx context.Context, stdout, stderr io.Writer) error {
	cfg, err := s.Connection.config()
	var p *printer
	if err == nil {
		p, err = s.printer(stdout)
	}
	if err != nil {
		return usageError{err}
	}
	if s.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(s.Timeout*float64(time.Second)))
		defer cancel()
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	cfg.Receive = func(m *mqtt.Message) {
		if err := p.print(m); err != nil {
			stop(err)
		}
	}
	err = s.stay(ctx, cfg, stderr)
	switch why := context.Cause(ctx); {
	case err != nil && why == nil:
		return err
	case errors.Is(why, context.DeadlineExceeded) && s.Count > 0:
		return fmt.Errorf("%d of %d messages came in %g s", p.printed, s.Count, s.Timeout)
	case errors.Is(why, context.DeadlineExceeded), errors.Is(why, context.Canceled), errors.Is(why, errDone), why == nil:
		return nil
	default:
		return why
	}
}

// stay keeps a connection until ctx ends. The first must succeed; after that a
// broken one is replaced, one that was refused for good is not. One that breaks again soon waits
// longer: two with the same client id would take each other over for ever.
func (s *subCmd) stay(ctx context.Context, cfg client.Config, stderr io.Writer) error {
	conn, err := s.open(ctx, cfg, stderr)
	if err != nil {
		return err
	}
	for wait := time.Duration(0); ; {
		if conn != nil && s.Subscribed {
			return conn.Close()
		}
		if conn != nil {
			up := time.Now()
			select {
			case <-ctx.Done():
				return conn.Close()
			case <-conn.Done():
				err = conn.Err()
			}
			if time.Since(up) > 2*wait {
				wait = 0
			}
		}
		if no := new(client.RefusedError); errors.As(err, &no) && !no.Later() {
			return err
		}
		s.Connection.debugf(stderr, "%v: trying again", err)
		wait = min(2*wait+100*time.Millisecond, 30*time.Second)
		if pause(ctx, wait) != nil {
			return nil
		}
		conn, err = s.open(ctx, cfg, stderr)
	}
}

// open connects and subscribes.
func (s *subCmd) open(ctx context.Context, cfg client.Config, stderr io.Writer) (*client.Client, error) {
	conn, err := s.Connection.dial(ctx, cfg, stderr)
	if err != nil {
		return nil, err
	}
	if err := s.subscribe(ctx, conn, stderr); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func (s *subCmd) subscribe(ctx context.Context, conn *client.Client, stderr io.Writer) error {
	if len(s.Unsubscribe) > 0 {
		if err := conn.Unsubscribe(ctx, s.Unsubscribe...); err != nil {
			return err
		}
	}
	if len(s.Topics) == 0 {
		return nil
	}
	var filters []mqtt.Subscription
	for _, t := range s.Topics {
		filters = append(filters, mqtt.Subscription{Filter: t, QoS: s.QoS, RetainAsPublished: s.AsPublished})
	}
	id, err := s.Connection.Properties.subscription()
	if err != nil {
		return err
	}
	reasons, err := conn.SubscribeTo(ctx, id, filters...)
	for i, r := range reasons {
		if r >= 0x80 {
			if len(reasons) == 1 {
				break // the error says it
			}
			fmt.Fprintf(stderr, "geocast: the broker refused %s: %v\n", s.Topics[i], r) //nolint:errcheck // nobody else can be told
		} else {
			s.Connection.debugf(stderr, "subscribed to %s at QoS %d", s.Topics[i], r)
		}
	}
	if errors.Is(err, client.ErrRefused) && mqtt.Version(s.Connection.Level) != mqtt.V5 {
		return fmt.Errorf("%w; with -V 5 it says why", err)
	}
	return err
}

// printer writes messages as the flags say.
type printer struct {
	s       *subCmd
	format  format
	out     io.Writer
	printed int
}

// printer makes one, or says which flags are wrong.
func (s *subCmd) printer(out io.Writer) (*printer, error) {
	if s.Connection.topic != "" {
		s.Topics = append(s.Topics, s.Connection.topic)
	}
	if len(s.Topics) == 0 && len(s.Unsubscribe) == 0 && !s.Connection.Lasting {
		return nil, errors.New("-t FILTER is missing")
	}
	for _, f := range append(append(s.Topics[:len(s.Topics):len(s.Topics)], s.Unsubscribe...), s.Without...) {
		if _, _, _, err := mqtt.ParseShared(f); err != nil {
			return nil, fmt.Errorf("-t %s: %w", f, err)
		}
		if err := mqtt.ValidFilter(f); err != nil {
			return nil, fmt.Errorf("-t %s: %w", f, err)
		}
	}
	if _, err := s.Connection.Properties.subscription(); err != nil {
		return nil, err
	}
	text := s.Format
	if text == "" {
		text = "%p"
		if s.Verbose {
			text = "%t %p"
		}
	}
	if !s.NoNewline {
		text += `\n`
	}
	f, err := parseFormat(text)
	return &printer{s: s, format: f, out: out}, err
}

// print prints m if the flags want it; errDone says that it was the last one.
func (p *printer) print(m *mqtt.Message) error {
	switch {
	case p.s.Count > 0 && p.printed == p.s.Count:
		return errDone
	case p.s.RetainedOnly && !m.Retain:
		return errDone
	case p.s.NoRetained && m.Retain:
		return nil
	}
	for _, f := range p.s.Without {
		if mqtt.Match(f, m.Topic) {
			return nil
		}
	}
	if _, err := p.out.Write(p.format.appendTo(nil, m, time.Now())); err != nil {
		return err
	}
	if p.printed++; p.printed == p.s.Count {
		return errDone
	}
	return nil
}
