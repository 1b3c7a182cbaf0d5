package main

import (
	"context"
	"fmt"
	"net/url"
	"time"
)

// play has bob write to ann, who is online, then offline, then online again.
func play(ctx context.Context, u *url.URL) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	ann := &phone{server: u, user: "ann", friend: "bob", events: make(chan event, 10)}
	bob := &phone{server: u, user: "bob", friend: "ann", events: make(chan event, 10)}
	for _, step := range []func() error{
		func() error { return ann.connect(ctx) },
		func() error { return ann.report(ctx, 48.2082, 16.3738) },
		func() error { return bob.connect(ctx) },
		func() error { return bob.say(ctx, "hello") },
		func() error { return ann.wait(ctx, "hello") },
		func() error { return ann.conn.Disconnect(ctx) },
		func() error { fmt.Println("ann is offline"); return bob.say(ctx, "are you there?") },
		func() error { return ann.connect(ctx) },
		func() error { return ann.wait(ctx, "are you there?") },
		func() error { return ann.say(ctx, "yes") },
		func() error { return bob.wait(ctx, "yes") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// wait waits for a message.
func (p *phone) wait(ctx context.Context, body string) error {
	for e := (event{}); e.Body != body; {
		select {
		case e = <-p.events:
		case <-ctx.Done():
			return fmt.Errorf("%s waits for %q: %w", p.user, body, ctx.Err())
		}
	}
	return nil
}
