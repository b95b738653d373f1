package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	// certificateLife outlasts every test and demo.
	certificateLife = 10 * 365 * 24 * time.Hour
	// certificateSkew dates certificates back, for clocks that step.
	certificateSkew = time.Hour
)

// keyPair is a certificate and its key, each as PEM.
type keyPair struct{ cert, key []byte }

// authority signs certificates.
type authority struct {
	keyPair
	parsed *x509.Certificate
	signer *ecdsa.PrivateKey
}

// newAuthority returns a self-signed certificate authority.
func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate the key of %s: %w", name, err)
	}
	template, err := certificateTemplate(pkix.Name{CommonName: name})
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("self-sign %s: %w", name, err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse the certificate of %s: %w", name, err)
	}
	pair, err := encodePair(der, key)
	if err != nil {
		return nil, err
	}
	return &authority{keyPair: pair, parsed: parsed, signer: key}, nil
}

// client signs a client certificate: Kubernetes reads the user from the common name and the groups from the organizations.
func (a *authority) client(user string, groups ...string) (keyPair, error) {
	return a.sign(pkix.Name{CommonName: user, Organization: groups}, func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
}

// serving signs a server certificate for these names and addresses.
func (a *authority) serving(name string, dnsNames []string, addresses []net.IP) (keyPair, error) {
	return a.sign(pkix.Name{CommonName: name}, func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		c.DNSNames = dnsNames
		c.IPAddresses = addresses
	})
}

func (a *authority) sign(subject pkix.Name, adapt func(*x509.Certificate)) (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, fmt.Errorf("generate the key of %s: %w", subject.CommonName, err)
	}
	template, err := certificateTemplate(subject)
	if err != nil {
		return keyPair{}, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	adapt(template)
	der, err := x509.CreateCertificate(rand.Reader, template, a.parsed, key.Public(), a.signer)
	if err != nil {
		return keyPair{}, fmt.Errorf("sign %s: %w", subject.CommonName, err)
	}
	return encodePair(der, key)
}

func certificateTemplate(subject pkix.Name) (*x509.Certificate, error) {
	// RFC 5280, 4.1.2.2: positive, at most 20 octets.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, fmt.Errorf("draw a serial number: %w", err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      subject,
		NotBefore:    now.Add(-certificateSkew),
		NotAfter:     now.Add(certificateLife),
	}, nil
}

func encodePair(der []byte, key *ecdsa.PrivateKey) (keyPair, error) {
	encoded, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return keyPair{}, fmt.Errorf("encode a private key: %w", err)
	}
	return keyPair{
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded}),
	}, nil
}

// pki is every certificate and key of a cluster. The file names are below pki/ in the cluster's directory.
type pki struct {
	dir string

	ca           *authority // signs clients, servers and CertificateSigningRequests
	frontProxyCA *authority // signs only the aggregator: whoever holds such a certificate may claim to be anybody
	serving      keyPair    // of kube-apiserver, kube-controller-manager and kube-scheduler: all of them are 127.0.0.1
	frontProxy   keyPair
	admin        keyPair // system:masters
	controllers  keyPair
	scheduler    keyPair
	kubelet      keyPair
}

// newPKI generates everything and writes to dir what the components read from files.
func newPKI(dir string) (*pki, error) {
	p := &pki{dir: dir}
	var err error
	if p.ca, err = newAuthority("towline-test-cluster-ca"); err != nil {
		return nil, err
	}
	if p.frontProxyCA, err = newAuthority("towline-test-cluster-front-proxy-ca"); err != nil {
		return nil, err
	}
	if p.serving, err = p.ca.serving("kube-apiserver", []string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, firstServiceIP}); err != nil {
		return nil, err
	}
	if p.frontProxy, err = p.frontProxyCA.client("front-proxy-client"); err != nil {
		return nil, err
	}
	for _, c := range []struct {
		pair  *keyPair
		user  string
		group []string
	}{
		{&p.admin, "towline-test-admin", []string{"system:masters"}},
		{&p.controllers, "system:kube-controller-manager", nil},
		{&p.scheduler, "system:kube-scheduler", nil},
		// One process plays all nodes, the volume provisioner and the load balancer, so it has more rights than a kubelet.
		{&p.kubelet, "towline-simulated-kubelet", []string{"system:masters"}},
	} {
		if *c.pair, err = p.ca.client(c.user, c.group...); err != nil {
			return nil, err
		}
	}
	return p, p.write()
}

func (p *pki) write() error {
	accounts, err := newAuthority("service-accounts") // only its key is used: it signs tokens
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"ca.crt":              p.ca.cert,
		"ca.key":              p.ca.key,
		"front-proxy-ca.crt":  p.frontProxyCA.cert,
		"front-proxy.crt":     p.frontProxy.cert,
		"front-proxy.key":     p.frontProxy.key,
		"serving.crt":         p.serving.cert,
		"serving.key":         p.serving.key,
		"service-account.key": accounts.key,
	} {
		if err := os.WriteFile(p.path(name), content, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }
