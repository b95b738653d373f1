package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
)

// story is what --exit plays: install, publish a second version, prune, upgrade the chart by semver, repair, refuse what nobody signed.
func (d *demo) story(ctx context.Context) error {
	steps := []struct {
		title string
		do    func() error
		see   []expectation
	}{
		{"the first versions are rolled out", func() error { return nil }, []expectation{
			{"manifests on tag latest: Deployment default/podinfo runs " + firstImage, d.runs("default", firstImage, 1)},
			{"ConfigMap default/podinfo-banner is there", d.banner(true)},
			{"chart by semver \">=6.9.0\": Deployment podinfo/podinfo runs " + firstChart + " with the 2 replicas of its values", d.runs("podinfo", firstChart, 2)},
		}},
		{"pushing tag latest again, with image " + secondImage + " and without the banner", func() error { return d.publishManifests(secondImage, false) }, []expectation{
			{"the change is rolled out: Deployment default/podinfo runs " + secondImage, d.runs("default", secondImage, 1)},
			{"the dropped ConfigMap is pruned", d.banner(false)},
		}},
		{"publishing chart " + secondChart, func() error { publishChart(d.registry, secondChart); return nil }, []expectation{
			{"the release is upgraded by itself: Deployment podinfo/podinfo runs " + secondChart, d.runs("podinfo", secondChart, 2)},
		}},
		{"deleting the Deployment default/podinfo behind the agent's back", func() error { return d.deleteDeployment(ctx) }, []expectation{
			{"it is back", d.runs("default", secondImage, 1)},
		}},
		{"pushing tag latest with image " + thirdImage + ", which nobody has signed", d.pushUnsigned, []expectation{
			{"the source says SignatureMissing", d.refused},
			{"what was signed goes on running: " + secondImage, d.runs("default", secondImage, 1)},
		}},
		{"signing it", d.signThird, []expectation{
			{"now it is rolled out: Deployment default/podinfo runs " + thirdImage, d.runs("default", thirdImage, 1)},
		}},
	}
	for _, step := range steps {
		fmt.Println()
		say("%s", step.title)
		if err := step.do(); err != nil {
			return err
		}
		for _, e := range step.see {
			if err := d.await(ctx, e.what, e.check); err != nil {
				return err
			}
		}
	}
	if err := d.await(ctx, "every target is Ready", d.ready); err != nil {
		return err
	}
	if err := d.towline(ctx, "status"); err != nil {
		return err
	}
	say("the story is over: everything was as it should be")
	return nil
}

type expectation struct {
	what  string
	check func(context.Context) error
}

// runs expects a Deployment podinfo in a namespace to be rolled out with a version and a number of replicas.
func (d *demo) runs(namespace, version string, replicas int32) func(context.Context) error {
	return func(ctx context.Context) error {
		got, err := d.client.AppsV1().Deployments(namespace).Get(ctx, "podinfo", metav1.GetOptions{})
		if err != nil {
			return err
		}
		image := got.Spec.Template.Spec.Containers[0].Image
		if !strings.HasSuffix(image, ":"+version) {
			return fmt.Errorf("image is %s", image)
		}
		if s := got.Status; s.ObservedGeneration != got.Generation || s.UpdatedReplicas != replicas || s.AvailableReplicas != replicas {
			return fmt.Errorf("%d of %d replicas updated and %d available", s.UpdatedReplicas, replicas, s.AvailableReplicas)
		}
		return nil
	}
}

// banner expects the ConfigMap of the first version to be there or not.
func (d *demo) banner(there bool) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := d.client.CoreV1().ConfigMaps("default").Get(ctx, "podinfo-banner", metav1.GetOptions{})
		switch {
		case there || err != nil && !apierrors.IsNotFound(err):
			return err
		case err == nil:
			return fmt.Errorf("it is still there")
		}
		return nil
	}
}

func (d *demo) deleteDeployment(ctx context.Context) error {
	return d.client.AppsV1().Deployments("default").Delete(ctx, "podinfo", metav1.DeleteOptions{})
}

// pushUnsigned is what somebody does who may write to the registry and has no key.
func (d *demo) pushUnsigned() error {
	d.unsigned = pushManifests(d.registry, "latest", thirdImage, false)
	return nil
}

func (d *demo) signThird() error {
	if d.unsigned == "" {
		return errors.New("there is nothing to sign: 5 publishes it")
	}
	return d.signer.sign(d.registry, manifestsRepo, d.unsigned)
}

// refused expects the agent to say that there is no signature.
func (d *demo) refused(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, d.agent, "status", "-o", "json", "--socket", d.socket()).Output() //nolint:gosec // the binary is the demo's own
	if err != nil {
		return fmt.Errorf("towline status: %w", err)
	}
	var status struct{ Sources []deploy.SourceState }
	if err := json.Unmarshal(out, &status); err != nil {
		return err
	}
	for _, s := range status.Sources {
		if s.Reason == deploy.SourceUnsigned {
			return nil
		}
	}
	return errors.New("no source says that a signature is missing")
}

// ready asks the agent itself.
func (d *demo) ready(ctx context.Context) error {
	return d.quiet(ctx, "status", "--exit-code")
}

// interact offers the steps of the story one by one until the user has seen enough.
func (d *demo) interact(ctx context.Context) error {
	for _, e := range []expectation{{"manifests are rolled out", d.runs("default", firstImage, 1)}, {"the chart is installed", d.runs("podinfo", firstChart, 2)}} {
		if err := d.await(ctx, e.what, e.check); err != nil {
			return err
		}
	}
	d.help()
	choices := make(chan string)
	go func() { // ends with the process: a read from a terminal cannot be cancelled
		defer close(choices)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			choices <- strings.TrimSpace(in.Text())
		}
	}()
	for {
		fmt.Print("demo> ")
		select {
		case <-ctx.Done():
			fmt.Println()
			return ctx.Err()
		case choice, open := <-choices:
			if !open { // no terminal: stay up until interrupted
				<-ctx.Done()
				return ctx.Err()
			}
			if choice == "q" {
				return nil
			}
			if err := d.choose(ctx, choice); err != nil {
				fmt.Println(err)
			}
		}
		if err := d.alive(); err != nil {
			return err
		}
	}
}

func (d *demo) choose(ctx context.Context, choice string) error {
	switch choice {
	case "1":
		if err := d.publishManifests(secondImage, false); err != nil {
			return err
		}
		return d.await(ctx, "rolled out "+secondImage+" and pruned the banner", func(ctx context.Context) error {
			if err := d.runs("default", secondImage, 1)(ctx); err != nil {
				return err
			}
			return d.banner(false)(ctx)
		})
	case "2":
		publishChart(d.registry, secondChart)
		return d.await(ctx, "upgraded the release to "+secondChart, d.runs("podinfo", secondChart, 2))
	case "3":
		if err := d.deleteDeployment(ctx); err != nil {
			return err
		}
		return d.await(ctx, "the Deployment is back", func(ctx context.Context) error {
			_, err := d.client.AppsV1().Deployments("default").Get(ctx, "podinfo", metav1.GetOptions{})
			return err
		})
	case "4":
		digest := d.registry.PushFiles(manifestsRepo, "broken", map[string]string{"broken.yaml": "kind: Deployment\nmetadata: {name: broken}\n"}, nil)
		if err := d.signer.sign(d.registry, manifestsRepo, digest); err != nil {
			return err
		}
		d.registry.Tag(manifestsRepo, "broken", "latest")
		say("published manifests that do not build: nothing changes in the cluster, and status says why (1 publishes good ones again)")
		return nil
	case "5":
		if err := d.pushUnsigned(); err != nil {
			return err
		}
		return d.await(ctx, "refused: the source says SignatureMissing, and what runs stays (6 signs it)", d.refused)
	case "6":
		if err := d.signThird(); err != nil {
			return err
		}
		return d.await(ctx, "rolled out "+thirdImage, d.runs("default", thirdImage, 1))
	case "s":
		return d.towline(ctx, "status")
	case "e":
		return d.towline(ctx, "explain", "kustomization/podinfo")
	case "", "h", "?":
		d.help()
		return nil
	}
	return fmt.Errorf("there is no %q: h shows what there is", choice)
}

func (d *demo) help() {
	fmt.Printf(`
  status page   http://%s
  agent's log   %s
  kubeconfig    %s

  Try:  1  publish version two of the manifests: rolled out, and what it dropped is pruned
        2  publish chart %s: the release is upgraded by semver
        3  delete the Deployment behind the agent's back
        4  publish manifests that do not build
        5  publish manifests that nobody signed
        6  sign them
        s  towline status      e  towline explain kustomization/podinfo
        h  this help           q  end everything

`, d.listen, d.logFile(), d.kubeconfig, secondChart)
}
