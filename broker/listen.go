package broker

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// Listen takes connections at an address, which is a URL:
//
//	mqtt://host:1883   plain TCP
//	mqtts://host:8883  TLS, with Config.TLS
//	ws://host:8083     WebSocket, path /mqtt
//	wss://host:8084    WebSocket over TLS, path /mqtt
//
// A port of 0 takes a free one. It returns the address that it listens on; the
// listener ends with the broker.
func (b *Broker) Listen(address string) (net.Addr, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("broker: listen: %w", err)
	}
	port := map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "8083", "wss": "8084"}[u.Scheme]
	if port == "" {
		return nil, fmt.Errorf("broker: listen %q: the scheme must be mqtt, mqtts, ws or wss", address)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	secure := u.Scheme == "mqtts" || u.Scheme == "wss"
	if secure && b.cfg.TLS == nil {
		return nil, fmt.Errorf("broker: listen %q: no certificate is configured", address)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("broker: listen %q: %w", address, err)
	}
	b.serveListener(l, secure, u.Scheme == "ws" || u.Scheme == "wss")
	b.log.Info("listening", "url", u.Scheme+"://"+l.Addr().String())
	return l.Addr(), nil
}

func (b *Broker) serveListener(l net.Listener, secure, web bool) {
	b.mu.Lock()
	b.listeners = append(b.listeners, l)
	b.mu.Unlock()
	switch {
	case secure && web:
		l = tls.NewListener(l, b.cfg.TLS)
	case secure:
		l = tlsListener{l, b.cfg.TLS}
	}
	if !web {
		b.wg.Go(func() { b.accept(l) })
		return
	}
	mux := http.NewServeMux()
	mux.Handle("/mqtt", b.Handler())
	srv := &http.Server{
		Handler: mux, MaxHeaderBytes: 16 << 10,
		ReadTimeout: b.cfg.Limits.Connect, WriteTimeout: b.cfg.Limits.Connect, IdleTimeout: b.cfg.Limits.Connect, // until it is a WebSocket
		ErrorLog: slog.NewLogLogger(b.log.Handler(), slog.LevelDebug),
	}
	b.wg.Go(func() {
		srv.Serve(l) //nolint:errcheck // it ends when the listener is closed
		srv.Close()  //nolint:errcheck // those that have not become a WebSocket
	})
}

// accept takes connections until the listener is closed. When the process has
// no descriptor left it waits and tries again.
func (b *Broker) accept(l net.Listener) {
	wait := time.Duration(0)
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			wait = 0
			if tcp, ok := nc.(*net.TCPConn); !ok || b.poll(tcp, nil) == nil {
				go b.ServeConn(context.Background(), nc)
			}
		case errors.Is(err, net.ErrClosed):
			return
		default:
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			b.log.Warn("accept failed, waiting", "err", err, "wait", wait)
			time.Sleep(wait)
		}
	}
}

// subprotocols are the names of MQTT in WebSocket [MQTT-6.0.0-3], the second that
// of old clients of 3.1.
var subprotocols = []string{"mqtt", "mqttv3.1"}

// Handler serves MQTT over WebSocket [MQTT-6.0.0]: mount it at /mqtt.
func (b *Broker) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isWebSocket(r) && !offersMQTT(r) {
			b.refuseWebSocket(r, errors.New("it offers no subprotocol mqtt"))
			http.Error(w, "MQTT over WebSocket needs the subprotocol mqtt", http.StatusBadRequest)
			return
		}
		taken := &hijacked{ResponseWriter: w}
		ws, err := websocket.Accept(taken, r, &websocket.AcceptOptions{
			Subprotocols:       subprotocols,
			OriginPatterns:     b.cfg.Origins,
			InsecureSkipVerify: len(b.cfg.Origins) == 0,
			CompressionMode:    websocket.CompressionDisabled,
		})
		if err != nil {
			b.refuseWebSocket(r, err)
			return
		}
		var nc net.Conn = webSocket{websocket.NetConn(context.Background(), ws, websocket.MessageBinary), taken.below}
		if r.TLS != nil {
			nc = secureConn{nc, *r.TLS}
		}
		go b.ServeConn(context.Background(), nc) // Close waits; without the handler its request and deep stack can go
	})
}

// refuseWebSocket counts and logs one that is not opened.
func (b *Broker) refuseWebSocket(r *http.Request, err error) {
	b.stats.refusedConnects.Add(1)
	b.often.some(slog.LevelWarn, "connection refused", "remote", r.RemoteAddr, "reason", "no WebSocket", "err", err)
}

func isWebSocket(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// offersMQTT reports whether MQTT is among the subprotocols that a client offers.
func offersMQTT(r *http.Request) bool {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for offer := range strings.SplitSeq(line, ",") {
			if slices.Contains(subprotocols, strings.ToLower(strings.TrimSpace(offer))) {
				return true
			}
		}
	}
	return false
}

// hijacked remembers the connection that a WebSocket takes over from HTTP.
type hijacked struct {
	http.ResponseWriter
	below net.Conn
}

// Hijack is for websocket.Accept.
func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, buf, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.below = nc
	return nc, buf, err
}

// webSocket is MQTT in a WebSocket.
type webSocket struct {
	net.Conn
	below net.Conn
}

// Close says good-bye and waits for the peer's, but not for long. The library reads
// to its end the frame that has begun, which may be one of 2^63 bytes that never come.
func (w webSocket) Close() error {
	w.below.SetDeadline(time.Now().Add(lingerFor)) //nolint:errcheck // then the library's own hold
	return w.Conn.Close()
}

// secureConn is a WebSocket over TLS.
type secureConn struct {
	net.Conn
	state tls.ConnectionState
}

// ConnectionState is that of the TLS connection below.
func (s secureConn) ConnectionState() tls.ConnectionState { return s.state }

// certificate is what the client has shown and the listener's client CAs vouch for,
// or nil.
func (c *conn) certificate() *x509.Certificate {
	secure, ok := c.nc.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return nil
	}
	if s := secure.ConnectionState(); len(s.VerifiedChains) > 0 {
		return s.PeerCertificates[0]
	}
	return nil
}
