package probe

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/wasmop/wasmop/guest-go"
	"github.com/wasmop/wasmop/guest-go/apierrors"
	"github.com/wasmop/wasmop/guest-go/appsv1"
	"github.com/wasmop/wasmop/guest-go/authenticationv1"
	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/controllerutil"
	"github.com/wasmop/wasmop/guest-go/corev1"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

// act performs spec.action, and returns the value of status.echo.
func (r *reconciler) act(ctx context.Context, p *Probe, known *object) (echo string, result wasmop.Result, err error) {
	delay := time.Duration(p.Spec.DelayMs) * time.Millisecond
	switch p.Spec.Action {
	case "", "child":
		err = r.child(ctx, p, p.Spec.Value)
	case "churn":
		// An endless loop of reconciles: each writes a new value, which triggers the next one.
		err = r.child(ctx, p, strconv.FormatInt(known.seen, 10))
	case "conflict":
		echo, err = r.conflict(ctx, p)
	case "requeue":
		now := time.Now().UnixNano()
		r.memory.mu.Lock()
		echo = fmt.Sprintf("%d,%d", known.requeued, now)
		known.requeued = now
		r.memory.mu.Unlock()
		result.RequeueAfter = delay
	case "error":
		r.memory.mu.Lock()
		fail := known.errors < p.Spec.Count
		if fail {
			known.errors++
		}
		n := known.errors
		r.memory.mu.Unlock()
		if fail {
			return "", result, fmt.Errorf("error %d of %d, as asked for", n, p.Spec.Count)
		}
		echo = fmt.Sprintf("errors=%d", n)
	case "sleep":
		start := time.Now()
		time.Sleep(delay)
		echo = fmt.Sprintf("slept=%d", time.Since(start).Milliseconds())
	case "ticker":
		ticker := time.NewTicker(delay)
		for range p.Spec.Count {
			<-ticker.C
		}
		ticker.Stop()
		echo = fmt.Sprintf("ticks=%d", p.Spec.Count)
	case "slow":
		for range 3 {
			if err := r.readOwn(ctx, p); err != nil {
				return "", result, err
			}
		}
		err = r.child(ctx, p, p.Spec.Value)
		echo = "slow-done"
	case "hold":
		err = r.readOwn(ctx, p)
		echo = "held"
	case "fetch":
		echo, err = r.fetch(ctx, p)
	case "cached":
		echo, err = r.readCached(ctx, p)
	case "write-cached":
		echo, err = r.writeCached(ctx, p)
	case "replace":
		for n := range p.Spec.Count {
			var cm corev1.ConfigMap
			if err := r.client.Get(ctx, client.ObjectKeyFromObject(p), &cm); err != nil {
				return "", result, err
			}
			cm.Data["value"] = fmt.Sprintf("%s-%d", p.Spec.Value, n)
			if err := r.client.Update(ctx, &cm); err != nil {
				return "", result, err
			}
		}
	case "exact": // see Reconcile
	case "calls":
		echo = r.calls(ctx, p)
	case "quantity":
		echo, err = r.quantity(ctx, p)
	case "events":
		r.report(p)
	case "token":
		echo, err = r.token(ctx, p)
	case "list":
		echo, err = r.list(ctx, p)
	case "crash":
		// Nothing recovers this panic.
		go func() { panic("the Probe " + p.Name + " asked for a crash") }()
		time.Sleep(time.Hour)
	case "startup":
		slog.Debug("what it was started with")
		echo = fmt.Sprintf("%s;--from=%s,%s;%s", os.Getenv("MODE"), *from, strings.Join(flag.Args(), ","), os.Getenv("POD_NAMESPACE"))
	case "random":
		var b [16]byte
		if _, err := rand.Read(b[:]); err != nil {
			return "", result, err
		}
		echo = hex.EncodeToString(b[:]) + "," + r.memory.checkThousand()
	case "clock":
		echo = strconv.FormatInt(time.Now().UnixNano(), 10) + "," + strconv.FormatInt(int64(time.Since(known.first)), 10)
	case "panic":
		panic("the Probe " + p.Name + " asked for a panic")
	case "loop":
		loop()
	case "grow":
		r.grow()
	case "heap":
		r.memory.hold(p.Spec.Count)
	case "leak":
		if p.Status.ObservedGeneration != p.Generation {
			r.memory.leak(p.Spec.Count)
		}
		echo = "leaked"
	default:
		return "", result, wasmop.TerminalError(fmt.Errorf("unknown action %q", p.Spec.Action))
	}
	return echo, result, err
}

// fetch gets the URL in the value, and posts the response back. It returns status and body of both, and
// the first location.
func (r *reconciler) fetch(ctx context.Context, p *Probe) (string, error) {
	scheme, rest, _ := strings.Cut(p.Spec.Value, "://")
	host, path, _ := strings.Cut(rest, "/")
	request := client.Request{
		Target: scheme + "://" + host, Method: "GET", Path: "/" + path,
		Header: map[string]string{"authorization": "Bearer own"},
	}
	got, location, content, err := r.do(ctx, request)
	if err != nil {
		return "", err
	}
	request.Method, request.ContentType, request.Header, request.Body = "POST", "text/plain", nil, []byte(content)
	posted, _, answer, err := r.do(ctx, request)
	return fmt.Sprintf("%d %s; %d %s; %s", got, content, posted, answer, location), err
}

func (r *reconciler) do(ctx context.Context, request client.Request) (status int, location, content string, err error) {
	response, err := r.client.Do(ctx, request)
	if err != nil {
		return 0, "", "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.Status, response.Header["location"], string(body), err
}

// readOwn gets the ConfigMap with the Probe's name. Tests delay that request.
func (r *reconciler) readOwn(ctx context.Context, p *Probe) error {
	err := r.client.Get(ctx, client.ObjectKeyFromObject(p), &corev1.ConfigMap{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// readCached reads the ConfigMap with the Probe's name and lists all ConfigMaps, both from the cache. It returns
// the value, the resource version, and whether the two reads agree.
func (r *reconciler) readCached(ctx context.Context, p *Probe) (string, error) {
	var cm corev1.ConfigMap
	if err := r.client.Get(ctx, client.ObjectKeyFromObject(p), &cm, client.FromCache); err != nil {
		return "", err
	}
	var all corev1.ConfigMapList
	if err := r.client.List(ctx, &all, client.InNamespace(p.Namespace), client.FromCache); err != nil {
		return "", err
	}
	same := false
	for i := range all.Items {
		listed := &all.Items[i]
		same = same || listed.Name == cm.Name && listed.UID == cm.UID && listed.ResourceVersion == cm.ResourceVersion &&
			listed.Data["value"] == cm.Data["value"]
	}
	return fmt.Sprintf("%s,%s,%t", cm.Data["value"], cm.ResourceVersion, same), nil
}

// writeCached repeatedly writes the ConfigMap with the Probe's name, and reads it from the cache.
func (r *reconciler) writeCached(ctx context.Context, p *Probe) (string, error) {
	for n := range p.Spec.Count {
		value := fmt.Sprintf("%s-%d", p.Spec.Value, n)
		cm := configMap(p, p.Name)
		patch := client.RawPatch(client.MergePatchType, []byte(`{"data":{"value":"`+value+`"}}`))
		if err := r.client.Patch(ctx, cm, patch); err != nil {
			return "", err
		}
		read, err := r.readCached(ctx, p)
		if err != nil {
			return "", err
		}
		if !strings.HasPrefix(read, value+",") {
			return "", fmt.Errorf("wrote %s, and read %s", value, read)
		}
	}
	return "read its writes", nil
}

// quantity writes quantities twice, spelled differently from the API server. The second write must change nothing.
func (r *reconciler) quantity(ctx context.Context, p *Probe) (string, error) {
	labels, none := map[string]string{"probe": p.Name}, int32(0)
	limits := corev1.ResourceList{"cpu": "1000m", "memory": "1024Mi"}
	echo := ""
	for range 2 {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}}
		result, err := controllerutil.CreateOrPatch(ctx, r.client, d, func() error {
			d.Spec.Replicas = &none
			d.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
			d.Spec.Template.Labels = labels
			if len(d.Spec.Template.Spec.Containers) == 0 {
				d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: "none"}}
			}
			d.Spec.Template.Spec.Containers[0].Resources.Limits = limits
			return nil
		})
		if err != nil {
			return "", err
		}
		echo = string(result)
	}
	return echo, nil
}

// clusterRole has names that no Event can have.
type clusterRole struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
}

func (*clusterRole) Resource() metav1.Resource {
	return metav1.Resource{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole", Plural: "clusterroles"}
}

// report emits two Events in one step, and one about an object whose name no Event can have.
func (r *reconciler) report(p *Probe) {
	r.events.Eventf(p, nil, wasmop.EventTypeNormal, "First", "Report", "the first Event of the step")
	r.events.Eventf(p, nil, wasmop.EventTypeNormal, "Second", "Report", "the second Event of the step")
	role := &clusterRole{ObjectMeta: metav1.ObjectMeta{Name: "system:" + p.Namespace}}
	r.events.Eventf(role, nil, wasmop.EventTypeNormal, "OddName", "Report", "of "+p.Name)
}

// token creates a token if the value requests it, and reads the ServiceAccount with the Probe's name from the cache.
func (r *reconciler) token(ctx context.Context, p *Probe) (string, error) {
	var account corev1.ServiceAccount
	key := client.ObjectKeyFromObject(p)
	if p.Spec.Value == "create" {
		account.Namespace, account.Name = key.Namespace, key.Name
		if err := r.client.SubResource("token").Create(ctx, &account, &authenticationv1.TokenRequest{}); err != nil {
			return "", err
		}
	}
	err := r.client.Get(ctx, key, &account, client.FromCache)
	return account.Name, err
}

// list lists the ConfigMaps with the Probe's name as a label.
func (r *reconciler) list(ctx context.Context, p *Probe) (string, error) {
	var all corev1.ConfigMapList
	if err := r.client.List(ctx, &all, client.InNamespace(p.Namespace), client.MatchingLabels{"bulk": p.Name}); err != nil {
		return "", err
	}
	bytes := 0
	for i := range all.Items {
		bytes += len(all.Items[i].Data["bulk"])
	}
	return fmt.Sprintf("%d,%d", len(all.Items), bytes), nil
}

// conflict provokes a conflict with a status update from an outdated copy, then reads again and retries
// until it succeeds.
func (r *reconciler) conflict(ctx context.Context, p *Probe) (string, error) {
	stale := client.DeepCopy(p)
	before := client.DeepCopy(p)
	p.Status.Echo = fmt.Sprintf("newer than %s", p.ResourceVersion)
	if err := r.client.Status().Patch(ctx, p, client.MergeFrom(before)); err != nil {
		return "", err
	}
	for conflicts := 0; ; conflicts++ {
		stale.Status.Echo = fmt.Sprintf("conflicts=%d", conflicts)
		err := r.client.Status().Update(ctx, stale)
		if err == nil {
			*p = *stale
			return p.Status.Echo, nil
		}
		if !apierrors.IsConflict(err) {
			return "", err
		}
		if err := r.client.Get(ctx, client.ObjectKeyFromObject(p), stale); err != nil {
			return "", err
		}
	}
}

//lint:ignore U1000 keeps the loop from being empty
var spins uint64

// loop never ends, and lets no other goroutine run.
func loop() {
	for {
		spins++
	}
}

// grow allocates until no memory is left.
func (r *reconciler) grow() {
	for n := int64(1); ; n++ {
		r.memory.hold(n)
	}
}
