package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/coder/websocket"

	"github.com/geocast/geocast/mqtt"
)

// ports are those of the field; the schemes are all that dial knows.
var ports = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "8083", "wss": "8084"}

// dial opens what cfg.Address names.
func dial(ctx context.Context, cfg *Config) (net.Conn, error) {
	if !strings.Contains(cfg.Address, "://") {
		return dialTCP(ctx, cfg.Address)
	}
	u, err := url.Parse(cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	port := ports[u.Scheme]
	if port == "" {
		return nil, fmt.Errorf("client: %s: the scheme must be mqtt, mqtts, ws or wss", cfg.Address)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	u.Host = net.JoinHostPort(u.Hostname(), port)
	switch u.Scheme {
	case "mqtt":
		return dialTCP(ctx, u.Host)
	case "mqtts":
		nc, err := (&tls.Dialer{Config: cfg.TLS}).DialContext(ctx, "tcp", u.Host)
		if err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
		return nc, nil
	}
	return dialWeb(ctx, u, cfg)
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return nc, nil
}

// dialWeb opens a WebSocket [MQTT-6.0.0]; the path is /mqtt if u has none.
func dialWeb(ctx context.Context, u *url.URL, cfg *Config) (net.Conn, error) {
	if u.Path == "" || u.Path == "/" {
		u.Path = "/mqtt"
	}
	u.User = nil
	protocol := "mqtt"
	if cfg.Version == mqtt.V31 {
		protocol = "mqttv3.1"
	}
	o := &websocket.DialOptions{Subprotocols: []string{protocol}, CompressionMode: websocket.CompressionDisabled,
		HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: cfg.TLS, DisableKeepAlives: true}}}
	ws, _, err := websocket.Dial(ctx, u.String(), o)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	ws.SetReadLimit(-1)
	return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
}
