package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mirrorborn.us/sqgate/admin"
	"mirrorborn.us/sqgate/storage/bucket"
	hosts "mirrorborn.us/sqgate/storage/host"
)

const bucketPath = "/api/v2/admin/bucket"

// newBucket is the commands about the bucket of a running sqgate.
func newBucket() *cobra.Command {
	c := newAPIClient()
	cmd := &cobra.Command{Use: "bucket", Short: "Put a running sqgate's data into a bucket, and show how far that is"}
	c.register(cmd.PersistentFlags())
	cmd.AddCommand(c.prepare(bucketInit(c)), c.prepare(bucketShow(c)))
	return cmd
}

func bucketInit(c *apiClient) *cobra.Command {
	o := defaultOptions().bucket
	cmd := &cobra.Command{
		Use: "init --bucket URL", Short: "Put everything that a sqgate without a bucket serves into one, while it serves", Args: cobra.NoArgs,
		Long: "Puts everything that a running sqgate without a bucket serves into one. It goes on serving meanwhile. The\n" +
			"command may be interrupted, and repeated: what is done is done. Afterwards start sqgate with --bucket:\n" +
			"what was written meanwhile is uploaded then. The key to S3 is the one that this command finds; sqgate uses\n" +
			"it for this call, and does not keep it.",
		Example: "  sqgate bucket init --bucket 's3://NAME/PREFIX?region=eu-central-1'\n  sqgate bucket init --bucket file:///mnt/other/sqgate",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.url == "" {
				return usageError{errors.New("--bucket is missing: name the bucket as serve is to have it")}
			}
			if err := o.check(); err != nil {
				return err
			}
			to := admin.BucketPlace{URL: o.url, HostName: o.hostName}
			if strings.HasPrefix(o.url, "s3:") {
				key, err := bucket.ReadKey(o.unitCredentials())
				if err != nil {
					return usageError{fmt.Errorf("--bucket: %w", err)}
				}
				to.Key = &key
				if socket, stop := c.lendDialer(o.url); stop != nil {
					defer stop()
					to.Dialer = socket
				}
			}
			return c.initBucket(to, cmd.ErrOrStderr())
		},
	}
	o.registerPlace(cmd.Flags())
	o.registerHost(cmd.Flags())
	return cmd
}

// lendDialer dials for a sqgate on this host that is in a network of its own. stop is nil if
// sqgate's state directory is not here.
func (c *apiClient) lendDialer(url string) (socket string, stop func()) {
	socket = filepath.Join(c.o.stateDir, fmt.Sprintf(".dialer-%d", os.Getpid()))
	l, err := listenUnix(socket)
	if err != nil {
		return "", nil
	}
	go (&dialer{reaches: func(address string) bool { return bucket.Reaches(url, address) }}).serve(l)
	_ = os.Chmod(socket, 0o666) // nobody else gets into the directory; if it fails, sqgate says that it cannot connect
	return socket, func() { _ = l.Close() }
}

// initBucket shows how far it is while it goes on.
func (c *apiClient) initBucket(to admin.BucketPlace, stderr io.Writer) error {
	text, err := json.Marshal(to)
	if err != nil {
		return err
	}
	resp, err := c.send(http.MethodPost, bucketPath+"/init", "application/json", strings.NewReader(string(text)))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		_, err := readAnswer(resp)
		return err
	}
	defer resp.Body.Close()
	var last struct {
		hosts.Progress
		Finished bool
		Error    string
	}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if err := json.Unmarshal([]byte(data), &last); err != nil {
			return err
		}
		if c.json {
			fmt.Fprintln(c.out, data)
		} else if !last.Finished && last.Error == "" {
			fmt.Fprintf(stderr, "%d of %d directories, %s, %s\n", last.Done, last.Directories, counted(last.Phexts, "phext"), megabytes(last.Bytes))
		}
	}
	switch {
	case last.Error != "":
		return fmt.Errorf("%s: mend that, and run the same command again, which goes on where this ended", last.Error)
	case !last.Finished:
		return errors.New("sqgate ended before everything was in the bucket: run the same command again, which goes on where this ended")
	case c.json:
		return nil
	}
	_, err = fmt.Fprintf(c.out, "%s of %d directories are in the bucket.\nNow set SQGATE_BUCKET='%s' in /etc/default/sqgate, or --bucket, and restart sqgate:\nwhat was written meanwhile is uploaded then.\n",
		counted(last.Phexts, "phext"), last.Directories, to.URL)
	return err
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/(1<<20)) }

func bucketShow(c *apiClient) *cobra.Command {
	var sizes bool
	cmd := &cobra.Command{Use: "status", Short: "Show how far the bucket of a running sqgate is, and what it costs", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		path := bucketPath
		if sizes {
			path += "?sizes=true"
		}
		return c.call(http.MethodGet, path, nil, printBucket)
	}}
	cmd.Flags().BoolVar(&sizes, "sizes", false, "list the whole bucket, to show what takes how much (one request for 1000 objects)")
	return cmd
}

func printBucket(out io.Writer, text []byte) error {
	var s admin.BucketStatus
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	if s.URL == "" {
		_, err := fmt.Fprintln(out, "sqgate was started without --bucket: all data is on its disk alone")
		return err
	}
	t := &table{prose: true, whole: true}
	t.add("bucket", s.URL)
	t.add("host", s.Host)
	lease := "held"
	if !s.Lease {
		lease = "LOST: nothing is served until the bucket can be reached again"
	}
	t.add("lease", lease)
	mode := "every write waits for the bucket"
	if !s.Sync {
		mode = fmt.Sprintf("the bucket may be %g s behind what was acknowledged (--bucket-sync=false)", s.LagSeconds)
	}
	t.add("writes", mode)
	t.add("behind", fmt.Sprintf("%.1f s", s.BehindSeconds))
	for _, problem := range s.Problems {
		t.add("PROBLEM", problem)
	}
	costs := s.Costs
	t.add("requests", fmt.Sprintf("%d puts, %d gets, %d lists and %d deletes, %d of them failed, since %s", costs.Puts, costs.Gets, costs.Lists, costs.Deletes, costs.Failed, ago(s.Since, time.Now())))
	t.add("sent", megabytes(costs.SentBytes))
	t.add("received", megabytes(costs.ReceivedBytes))
	for _, size := range s.Sizes {
		t.add(size.Kind, fmt.Sprintf("%s, %s", counted(int(size.Objects), "object"), megabytes(size.Bytes)))
	}
	if err := t.write(out); err != nil || len(s.Directories) == 0 {
		return err
	}
	owned := &table{}
	owned.add("DIRECTORY", "EPOCH", "POSITION", "CHECKPOINT", "BEHIND S")
	for _, d := range s.Directories {
		owned.add(d.Name, fmt.Sprint(d.Epoch), fmt.Sprint(d.Position), fmt.Sprint(d.Checkpoint), fmt.Sprintf("%.1f", d.BehindSeconds))
	}
	fmt.Fprintln(out)
	return owned.write(out)
}

// unitCredentials is the file with the key, for a command that is not the unit: the unit's
// credential is where systemd has it from.
func (o *bucketOptions) unitCredentials() string {
	if _, err := os.Stat(credentialFile("bucket")); err == nil && o.credentials == "" && os.Getenv("AWS_ACCESS_KEY_ID") == "" {
		return credentialFile("bucket")
	}
	return o.credentials
}
