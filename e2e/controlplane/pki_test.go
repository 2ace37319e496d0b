package main

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

func newTestPKI(t *testing.T) *pki {
	t.Helper()
	p, err := newPKI(filepath.Join(t.TempDir(), "pki"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestServerAndClientOfOnePKITrustEachOther(t *testing.T) {
	p := newTestPKI(t)
	cert, err := tls.LoadX509KeyPair(p.file("apiserver.crt"), p.file("apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(p.ca)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		subject := r.TLS.PeerCertificates[0].Subject
		_, _ = w.Write([]byte(subject.CommonName + " " + subject.Organization[0]))
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots}
	server.StartTLS()
	defer server.Close()

	transport, err := p.transport("admin")
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Transport: transport}).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body := make([]byte, 64)
	n, _ := response.Body.Read(body)
	if got, want := string(body[:n]), "admin system:masters"; got != want {
		t.Errorf("the server saw %q, want %q", got, want)
	}
}

func TestKubeconfigNeedsNoOtherFile(t *testing.T) {
	p := newTestPKI(t)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := p.writeKubeconfig(path, "https://127.0.0.1:6443", "admin"); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != "https://127.0.0.1:6443" || len(config.CAData) == 0 || len(config.CertData) == 0 || len(config.KeyData) == 0 {
		t.Errorf("incomplete: host %q, %d, %d, %d bytes", config.Host, len(config.CAData), len(config.CertData), len(config.KeyData))
	}
}

func TestCertificatesAreRenewedAndTheAuthorityStays(t *testing.T) {
	first := newTestPKI(t)
	before, err := tls.LoadX509KeyPair(first.file("apiserver.crt"), first.file("apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := newPKI(first.dir)
	if err != nil {
		t.Fatal(err)
	}
	if !second.ca.Equal(first.ca) || second.token != first.token {
		t.Error("the CA or the token has changed")
	}
	after, err := tls.LoadX509KeyPair(first.file("apiserver.crt"), first.file("apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	if after.Leaf.Equal(before.Leaf) {
		t.Error("the API server still has its old certificate")
	}
	roots := x509.NewCertPool()
	roots.AddCert(first.ca)
	if _, err := after.Leaf.Verify(x509.VerifyOptions{Roots: roots}); err != nil {
		t.Error("the old CA does not verify the new certificate:", err)
	}
}
