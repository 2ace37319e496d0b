package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// pki is a directory with everything the components authenticate each other by: a CA, a
// certificate for each of identities, the service account key pair, and an admin token.
type pki struct {
	dir   string
	token string
	ca    *x509.Certificate
	caKey *ecdsa.PrivateKey
}

// identity is a certificate to issue; it is written as NAME.crt and NAME.key.
type identity struct {
	name, commonName string
	groups           []string
	server           bool
}

var identities = []identity{
	{name: "apiserver", commonName: "kube-apiserver", server: true},
	{name: "admin", commonName: "admin", groups: []string{"system:masters"}},
	{name: "kube-controller-manager", commonName: "system:kube-controller-manager", groups: []string{"system:masters"}},
	{name: "front-proxy", commonName: "front-proxy"},
}

// newPKI keeps the CA, the service account keys and the token that it finds in dir, so that what was
// handed out before stays valid; certificates are always new.
func newPKI(dir string) (*pki, error) {
	p := &pki{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := p.openCA(); errors.Is(err, fs.ErrNotExist) {
		err = p.createAuthority()
		if err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	for _, id := range identities {
		if err := p.issue(id); err != nil {
			return nil, fmt.Errorf("certificate %s: %w", id.name, err)
		}
	}
	return p, nil
}

func (p *pki) createAuthority() error {
	if err := p.createCA(); err != nil {
		return err
	}
	if err := p.createServiceAccountKeys(); err != nil {
		return err
	}
	return p.createToken()
}

// openCA reads what createAuthority has written.
func (p *pki) openCA() error {
	pair, err := tls.LoadX509KeyPair(p.file("ca.crt"), p.file("ca.key"))
	if err != nil {
		return err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("%s: not an ECDSA key", p.file("ca.key"))
	}
	p.ca, p.caKey = pair.Leaf, key
	tokens, err := os.ReadFile(p.file("tokens.csv"))
	p.token, _, _ = strings.Cut(string(tokens), ",")
	return err
}

func (p *pki) file(name string) string { return filepath.Join(p.dir, name) }

func (p *pki) createCA() error {
	key, err := p.newKey("ca.key")
	if err != nil {
		return err
	}
	template, err := newTemplate(pkix.Name{CommonName: "controlplane-ca"})
	if err != nil {
		return err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage |= x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	p.caKey = key
	if p.ca, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	return p.writePEM("ca.crt", "CERTIFICATE", der)
}

func (p *pki) issue(id identity) error {
	key, err := p.newKey(id.name + ".key")
	if err != nil {
		return err
	}
	template, err := newTemplate(pkix.Name{CommonName: id.commonName, Organization: id.groups})
	if err != nil {
		return err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if id.server {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		template.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.IPv4(10, 0, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.ca, key.Public(), p.caKey)
	if err != nil {
		return err
	}
	return p.writePEM(id.name+".crt", "CERTIFICATE", der)
}

func newTemplate(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}, nil
}

func (p *pki) createServiceAccountKeys() error {
	key, err := p.newKey("sa.key")
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return p.writePEM("sa.pub", "PUBLIC KEY", der)
}

func (p *pki) createToken() error {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return err
	}
	p.token = hex.EncodeToString(b)
	return os.WriteFile(p.file("tokens.csv"), []byte(p.token+`,admin-token,admin-token,"system:masters"`+"\n"), 0o600)
}

func (p *pki) newKey(name string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, p.writePEM(name, "PRIVATE KEY", der)
}

func (p *pki) writePEM(name, blockType string, der []byte) error {
	return os.WriteFile(p.file(name), pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der}), 0o600)
}

// transport authenticates as one of identities.
func (p *pki) transport(name string) (*http.Transport, error) {
	cert, err := tls.LoadX509KeyPair(p.file(name+".crt"), p.file(name+".key"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(p.ca)
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}}}, nil
}
