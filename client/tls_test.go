package client_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/mqtt"
)

// certificate makes one that signs itself, for host.
func certificate(t *testing.T, host string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestTLS(t *testing.T) {
	cert := certificate(t, "localhost")
	b, err := broker.New(broker.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	trust := x509.NewCertPool()
	trust.AddCert(cert.Leaf)
	for _, scheme := range []string{"mqtts", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			a, err := b.Listen(scheme + "://127.0.0.1:0")
			must(t, err)
			eachLevel(t, func(t *testing.T, v mqtt.Version) {
				cfg := client.Config{Address: scheme + "://" + a.String(), Version: v, Client: "c", Clean: true}
				if _, err := client.Dial(t.Context(), cfg); err == nil {
					t.Fatal("a certificate that nobody trusts is taken")
				}
				cfg.TLS = &tls.Config{RootCAs: trust, ServerName: "localhost"}
				in := make(inbox, 1)
				cfg.Receive = in.receive
				c := dial(t, cfg)
				must(t, c.Subscribe(t.Context(), "t"))
				must(t, c.Publish(t.Context(), "t", []byte("x"), false))
				in.want(t)
				must(t, c.Close())
			})
		})
	}
}
