package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/casd/casd/cmd/casd/casdtest"
)

// writeCertificate makes a self-signed certificate for 127.0.0.1 with a serial number, and puts both files in place.
func writeCertificate(t *testing.T, certFile, keyFile string, serial int64) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "casd"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for path, b := range map[string][]byte{certFile: cert, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})} {
		if err := os.WriteFile(path+".new", b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	return cert
}

// TestTLS serves with a certificate, and with another one when the files change, without a restart.
func TestTLS(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	certFile, keyFile := filepath.Join(base, "cert.pem"), filepath.Join(base, "key.pem")
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(writeCertificate(t, certFile, keyFile, 1))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}

	// The harness would not trust the certificate, so it only launches.
	s := &casdtest.Server{Config: casdtest.Config{Bin: bin, Dirs: casdtest.DataDirs(base, 3), Work: base, Flags: []string{"--tls-cert", certFile, "--tls-key", keyFile}},
		Scheme: "https", LogPath: filepath.Join(base, "log"), Client: &http.Client{Transport: transport, Timeout: 10 * time.Second}}
	for _, dir := range s.Dirs {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(s.Kill)
	start(t, s)
	c := sdk(s, func(o *s3.Options) { o.HTTPClient = s.Client })
	mustCreateBucket(t, c, "tls")
	body := bytesOf(1, 6<<20)
	// A body that cannot seek goes out with an unsigned payload and a CRC as its trailer.
	if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("tls"), Key: aws.String("key"), Body: bytes.NewBuffer(body), ContentLength: aws.Int64(int64(len(body)))}); err != nil {
		t.Fatal(err)
	}
	mustObject(t, c, "tls", "key", body)
	if out, errs, exit, err := s.Casd(t.Context(), "stats", "--endpoint", s.URL(), "--tls-ca", certFile); err != nil || exit != 0 {
		t.Errorf("casd stats over TLS: exit %d, %v\n%s%s", exit, err, out, errs)
	}
	if _, errs, exit, _ := s.Casd(t.Context(), "stats", "--endpoint", s.URL()); exit != 3 || !strings.Contains(errs, "certificate") {
		t.Errorf("casd stats without the authority: exit %d\n%s", exit, errs)
	}

	serial := func() int64 {
		t.Helper()
		conn, err := tls.Dial("tcp", s.Addr, &tls.Config{RootCAs: pool})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Fatalf("serial number %d, want 1", got)
	}
	pool.AppendCertsFromPEM(writeCertificate(t, certFile, keyFile, 2))
	for deadline := time.Now().Add(30 * time.Second); serial() != 2; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the new certificate is not served")
		}
	}
	mustObject(t, c, "tls", "key", body)
	stop(t, s)
}
