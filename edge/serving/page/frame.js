// Drawing that waits for the next frame. Knows frames; knows nothing of what is drawn.

// A function that asks for `draw`: once with the next frame, however often it is called before.
export function withNextFrame(draw) {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      draw();
    });
  };
}
