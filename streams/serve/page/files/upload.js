/**
 * Makes pictures of files ready to be sent: smaller, upright, and without what a camera writes into them, such as the place.
 */

const SIDE = 768; // pixels of the longer side that is sent: more than twice of what the model looks at
const QUALITY = 0.9;

/**
 * A picture to send. What the browser cannot read is sent as it is: the worker says what is wrong with it.
 * @param {File} file
 * @returns {Promise<Blob>}
 */
export async function prepared(file) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return file;
  try {
    const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
    const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
    const canvas = new OffscreenCanvas(width ?? 1, height ?? 1);
    const context = canvas.getContext('2d');
    if (!context) return file;
    context.fillStyle = '#fff'; // behind what is transparent
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    return await canvas.convertToBlob({ type: 'image/jpeg', quality: QUALITY });
  } finally {
    bitmap.close();
  }
}
