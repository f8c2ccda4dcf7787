reset
set encoding utf8
if (!exists("suffix")) suffix = ''
if (!exists("formats")) formats = 'svg png pdf'
do for [format in formats] {
if (format eq 'svg') { set terminal svg size 653,225 font 'sans-serif,8' fontscale 1.33333 linewidth 1.33333 background '#ffffff'; symbol = 1.5 }
if (format eq 'png') { set terminal pngcairo size 1361,468 font 'sans-serif,8' fontscale 2.08333 linewidth 2.77778 pointscale 2.77778; symbol = 1 }
if (format eq 'pdf') { set terminal pdfcairo size 6.8056in,2.3403in font 'sans-serif,8' fontscale 0.75 linewidth 2; symbol = 1 }
set output 'roofline'.'.'.format.suffix
set multiplot
set border 3 linewidth 0.7 linecolor rgb '#444444'
set tics out nomirror scale 0.5,0.25 font ',7'
set grid ytics linetype 1 linecolor rgb '#dddddd' linewidth 0.5
set logscale x 2
set logscale y 10
unset key
unset label
unset arrow
set lmargin at screen 0.09796
set rmargin at screen 0.39202
set bmargin at screen 0.22849
set tmargin at screen 0.92878
set xrange [0.11317298:19.88107]
set yrange [1.5084131:263.65135]
set xtics ('2^{-3}' 2**-3,'2^{-2}' 2**-2,'2^{-1}' 2**-1,'2^{0}' 2**0,'2^{1}' 2**1,'2^{2}' 2**2,'2^{3}' 2**3,'2^{4}' 2**4)
set ytics ('' 2e0 1,'' 3e0 1,'' 4e0 1,'' 5e0 1,'' 6e0 1,'' 7e0 1,'' 8e0 1,'' 9e0 1,'10' 1e1,'' 2e1 1,'' 3e1 1,'' 4e1 1,'' 5e1 1,'' 6e1 1,'' 7e1 1,'' 8e1 1,'' 9e1 1,'100' 1e2,'' 2e2 1)
set label 'arithmetic intensity (flop/byte)' at screen 0.24499,0.10682 center font ',8' textcolor rgb '#000000'
set label 'softmax' at screen 0.09796,0.96439 left font ',8' textcolor rgb '#000000'
set arrow from screen 0.10361,0.60929 to screen 0.18249,0.79730 nohead back linecolor rgb '#666666' linewidth 0.7 dashtype (7,4)
set label 'L1' at screen 0.11135,0.66610 left rotate by 39.34 font ',6.5' textcolor rgb '#555555'
set arrow from screen 0.11431,0.22849 to screen 0.35292,0.79730 nohead back linecolor rgb '#666666' linewidth 0.7 dashtype (7,4)
set label 'memory' at screen 0.12204,0.28530 left rotate by 39.34 font ',6.5' textcolor rgb '#555555'
set arrow from screen 0.09796,0.79730 to screen 0.39202,0.79730 nohead back linecolor rgb '#666666' linewidth 0.7 dashtype (7,4)
set label 'measured FMA peak 100 GFLOP/s' at screen 0.10408,0.82698 left font ',6.5' textcolor rgb '#555555'
set label '' at screen 0.40427,0.90386 point pointtype 7 pointsize 0.5*symbol linecolor rgb '#0072b2'
set label 'softmax.k00' at screen 0.41651,0.90386 left font ',7' textcolor rgb '#0072b2'
set label '' at screen 0.40427,0.85401 point pointtype 5 pointsize 0.5*symbol linecolor rgb '#d55e00'
set label 'softmax.k01' at screen 0.41651,0.85401 left font ',7' textcolor rgb '#d55e00'
set label '' at screen 0.40427,0.80415 point pointtype 9 pointsize 0.5*symbol linecolor rgb '#009e73'
set label 'softmax.k02' at screen 0.41651,0.80415 left font ',7' textcolor rgb '#009e73'
set label 'multiply-add rate (GFLOP/s)' at screen 0.01429,0.61424 center rotate font ',8' textcolor rgb '#000000'
set label 'Hollow: unreliable (attnbench check says why).' at screen 0.00816,0.02522 left font ',6.5' textcolor rgb '#555555'
plot 'roofline'.'.tsv' index 0 using 1:3:4 notitle with filledcurves fillcolor rgb '#0072b2' fillstyle transparent solid 0.15 noborder, \
     '' index 1 using 1:3:4 notitle with filledcurves fillcolor rgb '#d55e00' fillstyle transparent solid 0.15 noborder, \
     '' index 2 using 1:3:4 notitle with filledcurves fillcolor rgb '#009e73' fillstyle transparent solid 0.15 noborder, \
     '' index 0 using 1:2 notitle with lines linecolor rgb '#0072b2' linewidth 1.1 dashtype solid, \
     '' index 0 using 1:($5==0?$2:NaN) notitle with points pointtype 7 pointsize 0.42*symbol linecolor rgb '#0072b2', \
     '' index 1 using 1:2 notitle with lines linecolor rgb '#d55e00' linewidth 1.1 dashtype (14,4), \
     '' index 1 using 1:($5==0?$2:NaN) notitle with points pointtype 5 pointsize 0.42*symbol linecolor rgb '#d55e00', \
     '' index 1 using 1:($5==1?$2:NaN) notitle with points pointtype 5 pointsize 0.5*symbol linecolor rgb '#ffffff', \
     '' index 1 using 1:($5==1?$2:NaN) notitle with points pointtype 4 pointsize 0.5*symbol linewidth 0.8 linecolor rgb '#d55e00', \
     '' index 2 using 1:2 notitle with lines linecolor rgb '#009e73' linewidth 1.1 dashtype (5,3), \
     '' index 2 using 1:($5==0?$2:NaN) notitle with points pointtype 9 pointsize 0.42*symbol linecolor rgb '#009e73', \
     '' index 2 using 1:($5==1?$2:NaN) notitle with points pointtype 9 pointsize 0.5*symbol linecolor rgb '#ffffff', \
     '' index 2 using 1:($5==1?$2:NaN) notitle with points pointtype 8 pointsize 0.5*symbol linewidth 0.8 linecolor rgb '#009e73'
unset label
unset arrow
set lmargin at screen 0.58469
set rmargin at screen 0.87876
set bmargin at screen 0.22849
set tmargin at screen 0.92878
set xrange [0.11317298:19.88107]
set yrange [1.5084131:263.65135]
set xtics ('2^{-3}' 2**-3,'2^{-2}' 2**-2,'2^{-1}' 2**-1,'2^{0}' 2**0,'2^{1}' 2**1,'2^{2}' 2**2,'2^{3}' 2**3,'2^{4}' 2**4)
set ytics ('' 2e0 1,'' 3e0 1,'' 4e0 1,'' 5e0 1,'' 6e0 1,'' 7e0 1,'' 8e0 1,'' 9e0 1,'10' 1e1,'' 2e1 1,'' 3e1 1,'' 4e1 1,'' 5e1 1,'' 6e1 1,'' 7e1 1,'' 8e1 1,'' 9e1 1,'100' 1e2,'' 2e2 1)
set label 'arithmetic intensity (flop/byte)' at screen 0.73172,0.10682 center font ',8' textcolor rgb '#000000'
set label 'linear' at screen 0.58469,0.96439 left font ',8' textcolor rgb '#000000'
set arrow from screen 0.59035,0.60929 to screen 0.66922,0.79730 nohead back linecolor rgb '#666666' linewidth 0.7 dashtype (7,4)
set label 'L1' at screen 0.59808,0.66610 left rotate by 39.34 font ',6.5' textcolor rgb '#555555'
set arrow from screen 0.60104,0.22849 to screen 0.83966,0.79730 nohead back linecolor rgb '#666666' linewidth 0.7 dashtype (7,4)
set label 'memory' at screen 0.60878,0.28530 left rotate by 39.34 font ',6.5' textcolor rgb '#555555'
set arrow from screen 0.58469,0.79730 to screen 0.87876,0.79730 nohead back linecolor rgb '#666666' linewidth 0.7 dashtype (7,4)
set label 'measured FMA peak 100 GFLOP/s' at screen 0.59082,0.82698 left font ',6.5' textcolor rgb '#555555'
set label '' at screen 0.89100,0.90386 point pointtype 7 pointsize 0.5*symbol linecolor rgb '#0072b2'
set label 'linear.k03' at screen 0.90324,0.90386 left font ',7' textcolor rgb '#0072b2'
set label '' at screen 0.89100,0.85401 point pointtype 5 pointsize 0.5*symbol linecolor rgb '#d55e00'
set label 'linear.k04' at screen 0.90324,0.85401 left font ',7' textcolor rgb '#d55e00'
set label '' at screen 0.89100,0.80415 point pointtype 9 pointsize 0.5*symbol linecolor rgb '#009e73'
set label 'linear.k05' at screen 0.90324,0.80415 left font ',7' textcolor rgb '#009e73'
set label '' at screen 0.89100,0.75430 point pointtype 11 pointsize 0.5*symbol linecolor rgb '#cc79a7'
set label 'linear.k06' at screen 0.90324,0.75430 left font ',7' textcolor rgb '#cc79a7'
set label '' at screen 0.89100,0.70445 point pointtype 13 pointsize 0.5*symbol linecolor rgb '#000000'
set label 'linear.k07' at screen 0.90324,0.70445 left font ',7' textcolor rgb '#000000'
set label '' at screen 0.89100,0.65460 point pointtype 15 pointsize 0.5*symbol linecolor rgb '#e69f00'
set label 'linear.k08' at screen 0.90324,0.65460 left font ',7' textcolor rgb '#e69f00'
set label '' at screen 0.89100,0.60475 point pointtype 7 pointsize 0.5*symbol linecolor rgb '#56b4e9'
set label 'linear.k09' at screen 0.90324,0.60475 left font ',7' textcolor rgb '#56b4e9'
set label '' at screen 0.89100,0.55490 point pointtype 5 pointsize 0.5*symbol linecolor rgb '#0072b2'
set label 'linear.k10' at screen 0.90324,0.55490 left font ',7' textcolor rgb '#0072b2'
set label '' at screen 0.89100,0.50504 point pointtype 9 pointsize 0.5*symbol linecolor rgb '#d55e00'
set label 'linear.k11' at screen 0.90324,0.50504 left font ',7' textcolor rgb '#d55e00'
set label '' at screen 0.89100,0.45519 point pointtype 7 pointsize 0.5*symbol linecolor rgb '#999999'
set label 'softmax.k00' at screen 0.90324,0.45519 left font ',7' textcolor rgb '#999999'
plot 'roofline'.'.tsv' index 3 using 1:3:4 notitle with filledcurves fillcolor rgb '#0072b2' fillstyle transparent solid 0.15 noborder, \
     '' index 4 using 1:3:4 notitle with filledcurves fillcolor rgb '#d55e00' fillstyle transparent solid 0.15 noborder, \
     '' index 5 using 1:3:4 notitle with filledcurves fillcolor rgb '#009e73' fillstyle transparent solid 0.15 noborder, \
     '' index 6 using 1:3:4 notitle with filledcurves fillcolor rgb '#cc79a7' fillstyle transparent solid 0.15 noborder, \
     '' index 7 using 1:3:4 notitle with filledcurves fillcolor rgb '#000000' fillstyle transparent solid 0.15 noborder, \
     '' index 8 using 1:3:4 notitle with filledcurves fillcolor rgb '#e69f00' fillstyle transparent solid 0.15 noborder, \
     '' index 9 using 1:3:4 notitle with filledcurves fillcolor rgb '#56b4e9' fillstyle transparent solid 0.15 noborder, \
     '' index 10 using 1:3:4 notitle with filledcurves fillcolor rgb '#0072b2' fillstyle transparent solid 0.15 noborder, \
     '' index 11 using 1:3:4 notitle with filledcurves fillcolor rgb '#d55e00' fillstyle transparent solid 0.15 noborder, \
     '' index 12 using 1:2 notitle with lines linecolor rgb '#999999' linewidth 0.8 dashtype solid, \
     '' index 12 using 1:($5==0?$2:NaN) notitle with points pointtype 7 pointsize 0.25*symbol linecolor rgb '#999999', \
     '' index 3 using 1:2 notitle with lines linecolor rgb '#0072b2' linewidth 1.1 dashtype solid, \
     '' index 3 using 1:($5==0?$2:NaN) notitle with points pointtype 7 pointsize 0.42*symbol linecolor rgb '#0072b2', \
     '' index 4 using 1:2 notitle with lines linecolor rgb '#d55e00' linewidth 1.1 dashtype (14,4), \
     '' index 4 using 1:($5==0?$2:NaN) notitle with points pointtype 5 pointsize 0.42*symbol linecolor rgb '#d55e00', \
     '' index 4 using 1:($5==1?$2:NaN) notitle with points pointtype 5 pointsize 0.5*symbol linecolor rgb '#ffffff', \
     '' index 4 using 1:($5==1?$2:NaN) notitle with points pointtype 4 pointsize 0.5*symbol linewidth 0.8 linecolor rgb '#d55e00', \
     '' index 5 using 1:2 notitle with lines linecolor rgb '#009e73' linewidth 1.1 dashtype (5,3), \
     '' index 5 using 1:($5==0?$2:NaN) notitle with points pointtype 9 pointsize 0.42*symbol linecolor rgb '#009e73', \
     '' index 6 using 1:2 notitle with lines linecolor rgb '#cc79a7' linewidth 1.1 dashtype (14,3,3,3), \
     '' index 6 using 1:($5==0?$2:NaN) notitle with points pointtype 11 pointsize 0.42*symbol linecolor rgb '#cc79a7', \
     '' index 7 using 1:2 notitle with lines linecolor rgb '#000000' linewidth 1.1 dashtype solid, \
     '' index 7 using 1:($5==0?$2:NaN) notitle with points pointtype 13 pointsize 0.42*symbol linecolor rgb '#000000', \
     '' index 8 using 1:2 notitle with lines linecolor rgb '#e69f00' linewidth 1.1 dashtype (14,4), \
     '' index 8 using 1:($5==0?$2:NaN) notitle with points pointtype 15 pointsize 0.42*symbol linecolor rgb '#e69f00', \
     '' index 9 using 1:2 notitle with lines linecolor rgb '#56b4e9' linewidth 1.1 dashtype (5,3), \
     '' index 9 using 1:($5==0?$2:NaN) notitle with points pointtype 7 pointsize 0.42*symbol linecolor rgb '#56b4e9', \
     '' index 10 using 1:2 notitle with lines linecolor rgb '#0072b2' linewidth 1.1 dashtype (14,3,3,3), \
     '' index 10 using 1:($5==0?$2:NaN) notitle with points pointtype 5 pointsize 0.42*symbol linecolor rgb '#0072b2', \
     '' index 11 using 1:2 notitle with lines linecolor rgb '#d55e00' linewidth 1.1 dashtype solid, \
     '' index 11 using 1:($5==0?$2:NaN) notitle with points pointtype 9 pointsize 0.42*symbol linecolor rgb '#d55e00'
unset multiplot
unset output
}
