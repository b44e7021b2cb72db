package bucket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// layout is the part of every key that names the layout of the objects, so that
// another one can stand beside it.
const layout = "v1"

// Options says how a bucket is reached.
type Options struct {
	// CredentialsFile is in AWS's format, with the profile default. "" = the
	// systemd credential bucket, or else the variables AWS_ACCESS_KEY_ID,
	// AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
	CredentialsFile string
	// Key is used instead, if it is not nil.
	Key *Key
	// Dial connects to the server; nil = as usual. sqgate may be in a network
	// without a way out.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Open returns the bucket at s3://NAME/PREFIX?endpoint=URL&region=R or
// file:///DIRECTORY. It connects to nothing; Probe does. No error has a secret in it.
func Open(rawURL string, o Options) (Bucket, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("the bucket's URL cannot be read") // the error of url.Parse quotes it
	}
	switch {
	case u.User != nil || u.Fragment != "" || u.Opaque != "":
		return nil, errors.New("the bucket's URL may have no user, password or fragment: credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or from a file")
	case u.Scheme == "file" && u.Host == "" && u.RawQuery == "" && filepath.IsAbs(u.Path):
		return OpenDirectory(u.Path)
	case u.Scheme == "s3":
		return openS3(u, o)
	}
	return nil, errors.New("the bucket's URL is neither s3://NAME/PREFIX?endpoint=URL&region=R nor file:///DIRECTORY")
}

func openS3(u *url.URL, o Options) (Bucket, error) {
	c := S3Config{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/"), Dial: o.Dial}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("the parameters of the bucket's URL cannot be read")
	}
	for name, values := range query {
		switch name {
		case "endpoint":
			c.Endpoint = values[0]
		case "region":
			c.Region = values[0]
		default:
			return nil, fmt.Errorf("the bucket's URL has an unknown parameter %q: there are endpoint and region", name)
		}
		if len(values) > 1 {
			return nil, fmt.Errorf("the bucket's URL has %q twice", name)
		}
	}
	if c.Region == "" {
		c.Region = os.Getenv("AWS_REGION")
	}
	if c.Key = o.Key; c.Key == nil {
		key, err := ReadKey(o.CredentialsFile)
		if err != nil {
			return nil, err
		}
		c.Key = &key
	}
	return NewS3(c)
}

// ReadKey finds the key to S3 as Options say. No error has a secret in it.
func ReadKey(credentialsFile string) (Key, error) {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); credentialsFile == "" && dir != "" {
		if file := filepath.Join(dir, "bucket"); isFile(file) {
			credentialsFile = file
		}
	}
	return readCredentials(credentialsFile)
}

// Reaches says whether the client of the bucket at rawURL may connect to an address.
func Reaches(rawURL, address string) bool {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "s3" {
		return false
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	endpoint := u.Query().Get("endpoint")
	if endpoint == "" {
		endpoint = awsEndpoint
	}
	server, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	wanted := server.Port()
	if wanted == "" {
		wanted = map[string]string{"http": "80", "https": "443"}[server.Scheme]
	}
	// AWS has a name for each bucket and region.
	const aws = ".amazonaws.com"
	return port == wanted && (host == server.Hostname() || strings.HasSuffix(server.Hostname(), aws) && strings.HasSuffix(host, aws))
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
