package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync/atomic"
)

// certs are the certificate and the client CA of TLS listeners. It is safe for
// concurrent use; load replaces the certificate while connections go on.
type certs struct {
	files   tlsConfig
	current atomic.Pointer[tls.Certificate]
	clients *x509.CertPool
}

func loadCerts(files tlsConfig) (*certs, error) {
	c := &certs{files: files}
	if files.ClientCA != "" {
		pem, err := os.ReadFile(files.ClientCA)
		if err != nil {
			return nil, err
		}
		c.clients = x509.NewCertPool()
		if !c.clients.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", files.ClientCA)
		}
	}
	return c, c.load()
}

// load reads the certificate and its key anew.
func (c *certs) load() error {
	if c.files.Cert == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return fmt.Errorf("tls: %s and %s: %w", c.files.Cert, c.files.Key, err)
	}
	c.current.Store(&pair)
	return nil
}

// config is nil without a certificate.
func (c *certs) config() *tls.Config {
	if c.files.Cert == "" {
		return nil
	}
	t := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
	if c.clients != nil {
		t.ClientCAs, t.ClientAuth = c.clients, tls.RequireAndVerifyClientCert
	}
	return t
}
