package broker_test

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// slowClose is a transport that takes its time to close, like a TLS or WebSocket
// connection whose peer does not answer.
type slowClose struct {
	net.Conn
	closed atomic.Bool
}

func (c *slowClose) Close() error {
	err := c.Conn.Close()
	time.Sleep(5 * time.Second)
	c.closed.Store(true)
	return err
}

// When Close returns, no transport is being closed any more.
func TestCloseWaitsForTransports(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		near, far := net.Pipe()
		defer far.Close() //nolint:errcheck // a pipe
		slow := &slowClose{Conn: near}
		go s.b.ServeConn(s.t.Context(), slow)
		if _, err := far.Write(mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V311, ClientID: "slow", CleanStart: true})); err != nil {
			s.t.Fatal(err)
		}
		if _, err := far.Read(make([]byte, 64)); err != nil { // CONNACK
			s.t.Fatal(err)
		}
		if err := s.b.Close(); err != nil {
			s.t.Fatal(err)
		}
		if !slow.closed.Load() {
			s.t.Error("Close has returned before the transport was closed")
		}
	})
}
