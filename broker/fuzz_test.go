package broker_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// FuzzAnyBytes: whatever a client sends, before or after its CONNECT, its connection
// ends when it hangs up, and the next client is served (P12).
func FuzzAnyBytes(f *testing.F) {
	b, err := broker.New(broker.Config{Log: quiet})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { b.Close() }) //nolint:errcheck // the store is in memory
	five, old := byte(mqtt.V5), byte(mqtt.V311)
	f.Add(byte(0), []byte{0x10, 0xff, 0xff, 0xff, 0x7f})
	f.Add(five, []byte{0x82, 4, 0, 1, 0, 0})
	f.Add(five, mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, SubID: 7, Filters: []mqtt.Subscription{{Filter: "$share/g/#", QoS: 2}}}, mqtt.V5))
	f.Add(five, []byte("\x3d\x0c\x00\x01a\x00\x01\x03\x23\x00\x01x\x62\x02\x00\x01"))
	f.Add(old, []byte("\x34\x06\x00\x01a\x00\x01x\x50\x02\x00\x01\xe0\x00"))
	f.Fuzz(func(t *testing.T, level byte, data []byte) {
		near, far := net.Pipe()
		ended := make(chan struct{})
		go func() { defer close(ended); b.ServeConn(context.Background(), far) }()
		go io.Copy(io.Discard, near) //nolint:errcheck // until it is closed
		if v := mqtt.Version(level); v == mqtt.V31 || v == mqtt.V311 || v == mqtt.V5 {
			data = append(mqtt.AppendConnect(nil, &mqtt.Connect{Version: v, ClientID: "fuzz", ReceiveMaximum: 3, SessionExpiry: uint32(len(data) & 1)}), data...)
		}
		near.SetWriteDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // a pipe has deadlines
		near.Write(data)                                        //nolint:errcheck // the broker may have closed it
		near.Close()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("the connection does not end")
		}
		near, far = net.Pipe()
		go b.ServeConn(context.Background(), far)
		c := &client{t: t, nc: near, v: mqtt.V5}
		c.connect("well")
		c.quiet()
		near.Close()
	})
}
