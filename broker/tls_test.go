package broker_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

func startTLS(t *testing.T, cfg broker.Config) net.Addr {
	t.Helper()
	cfg.TLS = certified(t)
	b, _ := start(t, cfg)
	addr, err := b.Listen("mqtts://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// secure connects over TLS, below which the caller holds the TCP connection.
func secure(t *testing.T, addr net.Addr) (c *client, below net.Conn) {
	t.Helper()
	c = dial(t, addr, mqtt.V311)
	below = c.nc
	c.nc = tls.Client(below, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // its own certificate
	return c, below
}

// cutConn writes what it is given in pieces of some bytes.
type cutConn struct {
	net.Conn
	piece int
}

func (c cutConn) Write(b []byte) (n int, err error) {
	for n < len(b) {
		k, err := c.Conn.Write(b[n:min(n+c.piece, len(b))])
		if n += k; err != nil {
			return n, err
		}
	}
	return n, nil
}

// A record that comes in pieces is read when it is whole: crypto/tls is asked again
// and again, and never for a record that is broken.
func TestTLSRecordsInPieces(t *testing.T) {
	addr := startTLS(t, broker.Config{})
	for _, piece := range []int{1, 7, 1 << 20} {
		c, below := secure(t, addr)
		c.nc = tls.Client(cutConn{below, piece}, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // its own certificate
		c.connect("pieces")
		c.subscribe("t", 1)
		for i := range 20 {
			c.publish("t", string(make([]byte, 300*i)), 1, uint16(i+1))
		}
		for acked, got := 0, 0; acked < 20 || got < 20; {
			first, body := c.read()
			switch mqtt.Type(first >> 4) {
			case mqtt.PUBACK:
				acked++
			case mqtt.PUBLISH:
				var p mqtt.Publish
				if err := p.Decode(first, body, mqtt.V311); err != nil || len(p.Payload) != 300*got {
					t.Fatalf("message %d has %d bytes, %v", got, len(p.Payload), err)
				}
				c.ack(mqtt.PUBACK, p.ID)
				got++
			}
		}
	}
}

// Many clients that have sent half a record hold no worker: a pair beside them talks.
func TestTLSHoldsNoWorkerForHalfARecord(t *testing.T) {
	addr := startTLS(t, broker.Config{})
	for i := range 8*runtime.GOMAXPROCS(0) + 8 {
		c, below := secure(t, addr)
		c.connect("half" + string(rune('A'+i)))
		for range 20 { // from here on a worker reads
			c.send(mqtt.AppendPingreq(nil))
			if first, _ := c.read(); mqtt.Type(first>>4) != mqtt.PINGRESP {
				t.Fatalf("got %v, want PINGRESP", mqtt.Type(first>>4))
			}
		}
		if _, err := below.Write([]byte{23, 3, 3, 1, 0, 'h'}); err != nil { // the beginning of 256 bytes
			t.Fatal(err)
		}
	}
	sub, _ := secure(t, addr)
	sub.connect("sub")
	sub.subscribe("t", 1)
	pub, _ := secure(t, addr)
	pub.connect("pub")
	pub.publish("t", "x", 1, 1)
	sub.want("t", "x")
}

// A handshake is bounded by the time that CONNECT may take.
func TestTLSHandshakeTakesNoLongerThanCONNECTMay(t *testing.T) {
	addr := startTLS(t, broker.Config{Limits: broker.Limits{Connect: 200 * time.Millisecond}})
	for name, begin := range map[string][]byte{"nothing": nil, "half a ClientHello": {22, 3, 1, 2, 0, 1}} {
		_, below := secure(t, addr)
		if _, err := below.Write(begin); err != nil {
			t.Fatal(err)
		}
		if err := below.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(below); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after %s: %v, want the connection closed", name, err)
		}
	}
}
