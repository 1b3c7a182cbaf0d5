package broker_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// onlyAnn lets ann in.
type onlyAnn struct{}

func (onlyAnn) Authenticate(_ context.Context, c *hooks.Credentials) (hooks.Identity, error) {
	if c.Username != "ann" {
		return hooks.Identity{}, &hooks.Refusal{Reason: mqtt.BadUserNameOrPassword, Text: "who?"}
	}
	return hooks.Identity{User: "ann", Verified: true}, nil
}

// One line when a client is in, one when it is gone, with the reason; and one when
// it is not let in.
func TestLogSaysWhoCameAndWhyTheyWent(t *testing.T) {
	log := &logText{}
	_, addr := start(t, broker.Config{Hooks: []any{onlyAnn{}}, Log: slog.New(slog.NewTextHandler(log, nil))})
	ann := func(p *mqtt.Connect) { p.Username, p.HasUsername = "ann", true }
	for _, row := range []struct {
		name string
		v    mqtt.Version
		end  func(c *client)
		want string
	}{
		{"disconnect", mqtt.V5, func(c *client) { c.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, c.v)) }, `reason=DISCONNECT\n`},
		{"with-will", mqtt.V5, func(c *client) {
			c.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{Reason: mqtt.DisconnectWithWill}, c.v))
		}, `reason="Disconnect with Will Message \(0x04\)"`},
		{"lost", mqtt.V311, func(c *client) { c.nc.Close() }, `reason="connection lost" text="the client closed it without DISCONNECT"`},
		{"garbage", mqtt.V31, func(c *client) { c.send([]byte{0xf7, 0}) }, `reason=".*" text=".+" clause=`},
		{"over", mqtt.V311, func(c *client) { dial(t, addr, mqtt.V311).connect("over", ann) }, `reason="Session taken over \(0x8e\)"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := dial(t, addr, row.v)
			c.connect(row.name, ann)
			from := `client=` + row.name + ` user=ann remote=127\.0\.0\.1:\d+ `
			log.want(t, fmt.Sprintf(`level=INFO msg="client connected" %sprotocol=%d keepalive=60 clean_start=true session_expiry=0\n`, from, row.v))
			row.end(c)
			log.want(t, `level=INFO msg="client disconnected" `+from+`(?i:`+row.want+`)`)
			if n := log.count("disconnected\" client=" + row.name + " "); n != 1 {
				t.Errorf("%d lines", n)
			}
		})
	}
	dial(t, addr, mqtt.V5).send([]byte("GET / HTTP/1.1\r\n\r\n"))
	log.want(t, `msg="connection refused" client="" user="" .* text="the first packet is not CONNECT" clause=MQTT-3.1.0-1\n`)
	for range 50 {
		dial(t, addr, mqtt.V5).connect(strings.Repeat("x", 9000))
	}
	log.want(t, `level=WARN msg="connection refused" client=x{128}… user="" remote=127\.0\.0\.1:\d+ reason="(?i:bad user name or password \(0x86\))" text=who\?\n`)
	if n := log.count("refused"); n >= 40 {
		t.Errorf("%d of 50 refusals are logged within a second or two", n)
	}
}
