// Draws one image at a time beside the page, which stays free to answer.
//
// First message: {about}, what model.json holds. Then {nfe, ends: [[seed, image], ...], share} is
// answered with {pixels, milliseconds}: from the noise of one end, or of a mixture of two. An answer
// {failure} says what went wrong.

import * as ort from "./runtime/ort.wasm.min.mjs";
import { runPlan, toPixels } from "./chain.js";
import { drawNoise, mixNoise } from "./noise.js";

ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send

let about;
let session;

async function evaluate(x, levels) {
  const [name, ...others] = about.inputs;
  const feeds = { [name]: new ort.Tensor("float32", x, [1, ...about.shape]) };
  others.forEach((other, i) => {
    feeds[other] = new ort.Tensor("float32", [levels[i]], [1]);
  });
  return (await session.run(feeds)).output.data;
}

async function load(content) {
  about = content;
  // The name changes with the content: browsers keep what they have fetched under a name.
  const answer = await fetch(`model.onnx?${about.sha256.slice(0, 16)}`);
  if (!answer.ok) throw new Error(`model.onnx: ${answer.status} ${answer.statusText}`);
  session = await ort.InferenceSession.create(new Uint8Array(await answer.arrayBuffer()));
  await draw({ nfe: 1, ends: [[0, 0]] }); // the first evaluation is slower and not shown
  return {};
}

async function draw({ nfe, ends, share }) {
  const begun = performance.now();
  const noiseOf = (number) => {
    const noises = ends.map(([seed, image]) =>
      drawNoise(seed, image, number, about.shape, about.noise_offset));
    return noises.length > 1 ? mixNoise(...noises, share) : noises[0];
  };
  const pixels = toPixels(await runPlan(about.plans[nfe], evaluate, noiseOf));
  return { pixels, milliseconds: performance.now() - begun };
}

onmessage = async ({ data }) => {
  try {
    postMessage(data.about ? await load(data.about) : await draw(data));
  } catch (error) {
    postMessage({ failure: String(error.message ?? error) });
  }
};
