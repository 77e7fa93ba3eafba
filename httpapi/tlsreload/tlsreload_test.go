package tlsreload

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writePair writes a self-signed certificate with that serial number; its files are made to look modified at that time.
func writePair(t *testing.T, cert, key string, serial int64, modified time.Time) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "casd"}, NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kd, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: kd}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	now := time.Now()
	writePair(t, cert, key, 1, now)
	c, err := newConfig(cert, key, nil, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		t.Helper()
		got, err := c.GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(got.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.SerialNumber.Int64()
	}
	if serial() != 1 {
		t.Error("not the first certificate")
	}
	writePair(t, cert, key, 2, now.Add(time.Minute))
	if serial() != 1 {
		t.Error("the files were looked at again at once")
	}
	now = now.Add(2 * checkInterval)
	if serial() != 2 {
		t.Error("the new certificate was not loaded")
	}
	// Broken and missing files keep the old certificate, until they are whole.
	if err := os.WriteFile(cert, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * checkInterval)
	if serial() != 2 {
		t.Error("a broken certificate was served")
	}
	os.Remove(key)
	now = now.Add(2 * checkInterval)
	if serial() != 2 {
		t.Error("without a key")
	}
	writePair(t, cert, key, 3, now)
	now = now.Add(2 * checkInterval)
	if serial() != 3 {
		t.Error("the third certificate was not loaded")
	}
	if _, err := New(filepath.Join(dir, "none"), key, nil); err == nil {
		t.Error("a missing file at the start")
	}
}
