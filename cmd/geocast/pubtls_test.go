package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// A certificate is trusted by --cafile; --insecure takes one of another host, but
// not one that nobody signed; --cert and --key show the client's own.
func TestPubOverTLS(t *testing.T) {
	dir := t.TempDir()
	cert := filepath.Join(dir, "cert.pem")
	key := filepath.Join(dir, "key.pem")
	elsewhere := filepath.Join(dir, "elsewhere.pem")
	writePair(t, cert, key, "elsewhere.example")
	writePair(t, elsewhere, filepath.Join(dir, "unused.pem"), "other.example")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		TLS: &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close() //nolint:errcheck // the test ends
	a, err := b.Listen("mqtts://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(a.String())
	for name, row := range map[string]struct {
		flags []string
		ok    bool
	}{
		"no such trust":          {[]string{"--cert", cert, "--key", key, "--tls-use-os-certs"}, false},
		"another host":           {[]string{"--cert", cert, "--key", key, "--cafile", cert}, false},
		"insecure":               {[]string{"--cert", cert, "--key", key, "--cafile", cert, "--insecure"}, true},
		"insecure, but unsigned": {[]string{"--cert", cert, "--key", key, "--cafile", elsewhere, "--insecure"}, false},
		"no client certificate":  {[]string{"--cafile", cert, "--insecure"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			at := append([]string{"-h", "127.0.0.1", "-p", port}, row.flags...)
			if err := publish(t, at, "", "-t", "t", "-m", "x", "-q", "1"); (err == nil) != row.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

// byCertificate signs clients in by the name of their certificate.
type byCertificate struct{}

func (byCertificate) Authenticate(_ context.Context, c *hooks.Credentials) (hooks.Identity, error) {
	if c.Certificate == nil {
		return hooks.Identity{}, &hooks.Refusal{Reason: mqtt.NotAuthorized, Text: "no certificate"}
	}
	return hooks.Identity{User: c.Certificate.Subject.CommonName, Verified: true}, nil
}

// An Authenticator sees the certificate that a client has shown, over TCP and
// WebSocket: it may say who the client is.
func TestCertificateSaysWhoAClientIs(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key, "localhost")
	ann, annKey := filepath.Join(dir, "ann.pem"), filepath.Join(dir, "ann.key")
	writePair(t, ann, annKey, "ann")
	certs, err := loadCerts(tlsConfig{Cert: cert, Key: key, ClientCA: ann})
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Config{Log: slog.New(slog.DiscardHandler), TLS: certs.config(), Hooks: []any{byCertificate{}}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close() //nolint:errcheck // the test ends
	for _, scheme := range []string{"mqtts", "wss"} {
		a, err := b.Listen(scheme + "://localhost:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(a.String())
		flags := []string{"-L", scheme + "://localhost:" + port + map[string]string{"wss": "/mqtt"}[scheme], "--cafile", cert, "--cert", ann, "--key", annKey}
		if err := publish(t, flags, "", "-t", "t", "-m", "x", "-q", "1"); err != nil {
			t.Errorf("%s: %v", scheme, err)
		}
	}
	plain, err := b.Listen("mqtt://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(plain.String())
	if err := publish(t, []string{"-h", "127.0.0.1", "-p", port}, "", "-t", "t", "-m", "x", "-q", "1"); err == nil {
		t.Error("who shows no certificate is let in")
	}
}

// writePair writes a certificate for host that signs itself, and its key.
func writePair(t *testing.T, cert, key, host string) {
	t.Helper()
	if err := makePair(cert, key, host); err != nil {
		t.Fatal(err)
	}
}

func makePair(cert, key, host string) error {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}
