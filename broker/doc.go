// Package broker is the conductor: listeners, sessions, the one ordered core,
// delivery, start and stop. It is what a Go program embeds:
//
//	b, err := broker.New(broker.Config{Data: dir})
//	err = b.Listen("mqtt://127.0.0.1:1883")
//	err = b.Serve(ctx)
//
// A packet's way, file by file: a connection's reader (read.go) frames and
// decodes it and makes a command of it; the core (core.go) gives the command
// its place in the one order and applies it to its state (publish.go,
// subscribe.go, connect.go, acks.go); what must survive a crash goes into the
// batch that is open (batch.go), which commits with one fsync; only then do the
// command's effects leave: acknowledgements and deliveries (effect.go), through
// the connection's output buffer and a shared flusher (write.go).
//
// The broker knows no rules and no chat: both join through package hooks.
package broker
